"""Name the commas that divide the keywords of a list, in all scripts."""

import re

LIST_COMMA = re.compile(r",\s+|\s*[،、，፣]\s*")
