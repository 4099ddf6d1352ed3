"""Files of another user, which only root can make."""

import os

import pytest

#: A user that owns nothing on any host.
STRANGER = 1234

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to another user")
