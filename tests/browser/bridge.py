"""A panel in a page without Jupyter: Playwright connects its JavaScript half to its Python half.

The two halves exchange the same messages as in JupyterLab, within the test process, so a page opens in a
fraction of a second. Other tests check that JupyterLab delivers these messages.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Browser, Page

from tests.waiting import until
from workbench.panels.base.live import LivePanel

#: The kernel as JupyterLab shows it to widgets; other applications show none.
_KERNEL = """{
  id: "1", status: "idle", connectionStatus: "connected", isDisposed: false, statusListeners: new Set(),
  get statusChanged() {
    const listeners = this.statusListeners;
    return { connect: (call) => listeners.add(call), disconnect: (call) => listeners.delete(call) };
  },
}"""

#: JupyterLab's own names for the colours of its dark theme.
_DARK = """
  :root { --jp-layout-color1: #212121; --jp-layout-color2: #2d2d2d; --jp-content-font-color1: #fff;
          --jp-content-font-color2: rgb(255 255 255 / 70%); --jp-border-color1: #616161;
          --jp-border-color2: #424242; --jp-brand-color1: #64b5f6; --jp-ui-inverse-font-color0: #000;
          background: #111; }
"""

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>A panel</title>
<style>body { margin: 0; padding: 20px; } %s</style><style>%s</style>
<body data-jp-theme-light="%s"><div id="panel"></div><script type="module">
const bytes = (text) => new DataView(Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0)).buffer);
const revive = (value) => {
  if (value && value.$bytes !== undefined) return bytes(value.$bytes);
  if (Array.isArray(value)) return value.map(revive);
  if (!value || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, revive(inner)]));
};
const traits = revive(%s);
const listeners = {};
const model = {
  get: (name) => traits[name],
  on: (name, call) => (listeners[name] ??= new Set()).add(call),
  off: (name, call) => listeners[name]?.delete(call),
  send: (message) => window.sendToKernel(message),
  widget_manager: { kernel: %s },
};
window.kernel = model.widget_manager.kernel;
window.kernelBecomes = (change) => {
  Object.assign(window.kernel, change);
  if (change.status) window.kernel.statusListeners.forEach((call) => call(window.kernel, change.status));
};
window.fromKernel = (name, value) => {
  if (name === "msg:custom") {
    return listeners[name]?.forEach((call) => call(value.content, revive(value.buffers)));
  }
  traits[name] = revive(value);
  listeners[`change:${name}`]?.forEach((call) => call());
};
const source = new Blob([%s], { type: "text/javascript" });
const { default: exported } = await import(URL.createObjectURL(source));
const panel = typeof exported === "function" ? await exported() : exported;
panel.initialize?.({ model });
const began = performance.now();
panel.render({ model, el: document.querySelector("#panel") });
await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
window.drawnIn = performance.now() - began;
</script></body></html>"""


class Bridge:
    """A panel in its own page.

    Parameters
    ----------
    browser : Browser
        The browser that opens the page.
    panel : LivePanel
        The Python half of the panel.
    dark : bool
        Whether to use JupyterLab's dark theme.
    kernel : bool
        Whether the application shows its kernel to widgets.
    **context
        Options of the page, such as its viewport.
    """

    def __init__(
        self, browser: Browser, panel: LivePanel, *, dark: bool = False, kernel: bool = True, **context: Any
    ) -> None:
        self.panel = panel
        #: Messages to a busy kernel, which :meth:`settle` handles.
        self.waiting: list[Any] = []
        self.is_busy = False
        self.errors: list[str] = []
        self.page: Page = browser.new_page(**{"viewport": {"width": 1180, "height": 900}, **context})
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.expose_function("sendToKernel", self._receive)
        self._news: list[tuple[str, Any]] = []
        names = [
            name for name in panel.trait_names(sync=True) if name in ("state", "curves", "live", "setup")
        ]
        panel.observe(lambda change: self._news.append((change["name"], change["new"])), names)
        panel.send = lambda content, buffers=None: self._news.append(  # type: ignore[method-assign]
            ("msg:custom", {"content": content, "buffers": list(buffers or [])})
        )
        traits = json.dumps({name: _plain(getattr(panel, name)) for name in names})
        style = panel._css
        page = _PAGE % (
            _DARK if dark else "",
            style,
            "false" if dark else "true",
            traits.replace("<", "\\u003c"),
            _KERNEL if kernel else "null",
            json.dumps(panel._esm).replace("<", "\\u003c"),
        )
        self.page.set_content(page)
        self.page.wait_for_function("window.drawnIn !== undefined")
        self.deliver()

    def _receive(self, message: Any) -> None:
        if message.get("type") == "view":
            return  # the tests call look() themselves
        self.waiting.append(message)
        if not self.is_busy:
            self.settle()

    def becomes(self, **change: str) -> None:
        """Change the kernel's ``status`` or ``connectionStatus``, as JupyterLab tells of it."""
        self.page.evaluate("(change) => window.kernelBecomes(change)", change)

    def settle(self) -> None:
        """Let the kernel handle its waiting messages."""
        waiting, self.waiting = self.waiting, []
        for message in waiting:
            self.panel._on_message(message)

    def deliver(self) -> None:
        """Deliver the kernel's messages to the page, as the panel's thread does."""
        # What the page has sent arrives before the answer to this; its callbacks run in the pause.
        self.page.evaluate("() => new Promise((done) => setTimeout(done))")
        self.page.wait_for_timeout(1)
        for _ in range(50):
            if not self._news:
                break
            news, self._news = self._news, []
            for name, value in news:
                self.page.evaluate("([name, value]) => window.fromKernel(name, value)", [name, _plain(value)])
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")

    def until(self, shown: Callable[[], object]) -> None:
        """Deliver the kernel's messages until the page shows something; other threads may send it."""

        def delivered() -> object:
            self.deliver()
            return shown()

        until(delivered, "the page shows it")

    def look(self) -> None:
        """Look at the workspace and show the changes."""
        self.panel.refresh()
        self.deliver()

    def close(self) -> None:
        """Close the page and the panel."""
        self.page.close()
        self.panel.close()


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode("ascii")}
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value
