"""Drive a headless Chromium over its debugging pipe: click, type, load and save files as a person would.

The protocol is Chromium's own (DevTools), one JSON object a message, ended by a zero byte.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import HANGING

#: Chromium reads commands from 3 and writes to 4.
_START = """
import fcntl, os, sys
read, write = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(read, 3)
os.dup2(write, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
_KEYS = {"Tab": 9, "Delete": 46, "Enter": 13, "ArrowRight": 39}


class Tab:
    """One tab. `requests`: addresses that it asked for; `console`: what it said, errors of scripts included.

    downloads: the directory of what it saves.
    """

    def __init__(self, commands: int, answers: int, downloads: Path) -> None:
        self.downloads = downloads
        self._commands, self._answers = commands, answers
        self._number, self._rest = 0, b""
        self._session: str | None = None
        self._context = ""
        self.requests: list[str] = []
        self.console: list[str] = []
        self._loaded = 0
        self._dialog: str | None = None
        self._dialogs: list[str] = []

    def begin(self) -> None:
        """Go on with a tab of its own storage, offline, as a browser that was never used."""
        if self._session is not None:
            self._session = None
            self.call("Target.disposeBrowserContext", browserContextId=self._context)
        self._context = self.call("Target.createBrowserContext")["browserContextId"]
        self.call(
            "Browser.setDownloadBehavior",
            behavior="allow",
            downloadPath=str(self.downloads),
            browserContextId=self._context,
        )
        target = self.call("Target.createTarget", url="about:blank", browserContextId=self._context)["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.call(f"{domain}.enable")
        offline = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        self.call("Network.emulateNetworkConditions", **offline)
        self.requests.clear()
        self.console.clear()

    def open(self, path: Path) -> None:
        self._navigate("Page.navigate", url=path.as_uri())

    def reload(self) -> None:
        self._navigate("Page.reload")

    def _navigate(self, method: str, **parameters: Any) -> None:
        before = self._loaded
        self.call(method, **parameters)
        self.until(lambda: self._loaded > before)

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        found = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, userGesture=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, *keys: str) -> None:
        for key in keys:
            code = _KEYS.get(key, ord(key[0]))
            text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
            of = {"key": key, "windowsVirtualKeyCode": code}
            self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **of, **text)
            self.call("Input.dispatchKeyEvent", type="keyUp", **of)

    def choose_file(self, selector: str, path: Path) -> None:
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    @contextmanager
    def answering(self, accept: bool) -> Iterator[list[str]]:
        """Answer the questions (`confirm`) that the page asks in the block; yields what they say."""
        self._dialog, self._dialogs = "yes" if accept else "no", []
        yield self._dialogs
        self._dialog = None

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def until(self, reached: Callable[[], object]) -> None:
        """Take messages until `reached` returns something true."""
        deadline = time.monotonic() + HANGING
        while not reached():
            assert time.monotonic() < deadline, self.console
            self._hear(0.05)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = self._send(method, parameters)
        deadline = time.monotonic() + HANGING
        while True:
            assert time.monotonic() < deadline, f"{method} is not answered"
            message = self._hear(1.0)
            if message is not None and message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                return dict(message["result"])

    def _send(self, method: str, parameters: dict[str, Any]) -> int:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._commands, data) :]
        return self._number

    def _hear(self, seconds: float) -> dict[str, Any] | None:
        """The next message, noted where it is an event; None where none comes."""
        while b"\0" not in self._rest:
            if not select.select([self._answers], [], [], seconds)[0]:
                return None
            read = os.read(self._answers, 1 << 16)
            if not read:
                raise EOFError("chromium has ended")
            self._rest += read
        data, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(data)
        of = message.get("params", {})
        match message.get("method"):
            case "Page.loadEventFired":
                self._loaded += 1
            case "Network.requestWillBeSent":
                self.requests.append(of["request"]["url"])
            case "Runtime.exceptionThrown":
                self.console.append(str(of["exceptionDetails"]))
            case "Log.entryAdded":
                self.console.append(str(of["entry"]))
            case "Runtime.consoleAPICalled":
                self.console.append(str(of["args"]))
            case "Page.javascriptDialogOpening":
                assert self._dialog is not None, of["message"]
                self._dialogs.append(of["message"])
                self._send("Page.handleJavaScriptDialog", {"accept": self._dialog == "yes"})
        return message


@contextmanager
def chromium(folder: Path) -> Iterator[Tab]:
    """A tab of a Chromium of its own, offline, whose downloads lie in `folder`/downloads. Skips where there is none."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no chromium on PATH: the page is not used as a person would")
    read_commands, commands = os.pipe()
    answers, write_answers = os.pipe()
    arguments = [program, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"]
    arguments += [f"--user-data-dir={folder / 'profile'}", "--window-size=1280,900"]
    process = subprocess.Popen(
        [sys.executable, "-c", _START, str(read_commands), str(write_answers), *arguments],
        pass_fds=(read_commands, write_answers),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(read_commands)
    os.close(write_answers)
    try:
        tab = Tab(commands, answers, folder / "downloads")
        tab.downloads.mkdir()
        tab.begin()
        yield tab
    finally:
        process.kill()
        process.wait()
        os.close(commands)
        os.close(answers)
