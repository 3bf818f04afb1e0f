"""A headless Chromium for tests, spoken to over a pipe: no port, no driver, nothing to install but the browser.

The protocol is Chrome's DevTools protocol, https://chromedevtools.github.io/devtools-protocol/: JSON messages, each
ended by a zero byte, in through file descriptor 3 and out through 4.
"""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-quic",
    "--mute-audio",
    "--hide-scrollbars",
    "--use-angle=swiftshader",  # WebGL 2 without a graphics card
    "--enable-unsafe-swiftshader",
)


def find_browser() -> str | None:
    """Path of a Chromium, or None."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Browser:
    """One browser with one page; what the page logs and asks for is kept."""

    def __init__(self, folder: Path, *, flags: tuple[str, ...] = ()) -> None:
        program = find_browser()
        assert program, "no Chromium"
        there, ours = (_high(os.pipe()) for _ in range(2))
        line = f'exec "$@" 3<&{there[0]} 4>&{ours[1]}'
        words = [program, *FLAGS, *flags, f"--user-data-dir={folder}", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", line, "browser", *words],
            pass_fds=(there[0], ours[1]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(there[0])
        os.close(ours[1])
        self._write, self._read = there[1], ours[0]
        self._rest, self._number, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._write)
        os.close(self._read)
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def call(self, method: str, *, seconds: float = 60, **parameters: Any) -> dict[str, Any]:
        """The answer to a command of the protocol."""
        self._number += 1
        number = self._number
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            came = self._receive(end - time.monotonic())
            self.events.extend(one for one in came if "id" not in one)  # those behind the answer too
            for answer in (one for one in came if one.get("id") == number):
                assert "error" not in answer, f"{method}: {answer['error']}"
                return dict(answer["result"])
        raise TimeoutError(f"{method}: no answer in {seconds:g} s")

    def _receive(self, seconds: float) -> list[dict[str, Any]]:
        if not select.select([self._read], [], [], max(0.0, seconds))[0]:
            return []
        got = os.read(self._read, 1 << 20)
        if not got:
            raise EOFError("the browser has ended")
        *whole, self._rest = (self._rest + got).split(b"\0")
        return [json.loads(part) for part in whole]

    def open(self, path: Path) -> None:
        """Load a file and wait until it is there."""
        self.events.clear()
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.until("document.readyState === 'complete' && location.protocol === 'file:'")

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, f"{script}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    def until(self, script: str, seconds: float = 60) -> None:
        """Wait until an expression in the page is true."""
        end = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < end, f"still not after {seconds:g} s: {script}"
            time.sleep(0.05)

    def middle(self, selector: str) -> tuple[float, float]:
        """Where the middle of an element is on the screen, after scrolling it there."""
        box = (
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect();"
            " return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        x, y = self.run(box)
        return float(x), float(y)

    def click(self, selector: str) -> None:
        """Click an element as a hand would."""
        x, y = self.middle(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def wheel(self, x: float, y: float, by: float) -> None:
        """Turn the wheel at a place."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        self.call("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=by)

    def press(self, key: str) -> None:
        """Press and release a key."""
        code = {"Enter": 13, "Tab": 9, " ": 32, "PageUp": 33, "PageDown": 34}.get(key, ord(key[0].upper()))
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, text=text, windowsVirtualKeyCode=code)

    def size(self, width: int, height: int) -> None:
        """Make the window that large."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def colours(self, scheme: str) -> None:
        """Prefer "light" or "dark"."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self, clip: tuple[float, float, float, float] | None = None) -> bytes:
        """The window, or a part (x, y, width, height) of the page, as PNG."""
        sides = ("x", "y", "width", "height")
        part = {} if clip is None else {"clip": {**dict(zip(sides, clip, strict=True)), "scale": 1}}
        return base64.b64decode(self.call("Page.captureScreenshot", format="png", **part)["data"])

    def complaints(self) -> list[str]:
        """Errors and warnings of the page so far, those of its security policy too."""
        self.run("1")  # everything that was said before has come when this is answered
        found = []
        for event in self.events:
            method, told = event.get("method"), event.get("params", {})
            if method == "Runtime.exceptionThrown":
                found.append(json.dumps(told["exceptionDetails"])[:500])
            elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
                found.append(" ".join(str(one.get("value", one.get("description"))) for one in told["args"]))
            elif method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
                found.append(told["entry"]["text"])
        return found

    def requests(self) -> list[str]:
        """Everything that the page has asked for so far."""
        self.run("1")
        return [
            str(event["params"]["request"]["url"])
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]


def _high(ends: tuple[int, int]) -> tuple[int, int]:
    """The same pipe at descriptors that 3 and 4 do not meet."""
    reading, writing = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return reading, writing
