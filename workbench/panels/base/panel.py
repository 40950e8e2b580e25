"""The base class of all panels: a widget that closes its layout with itself."""

from __future__ import annotations

import anywidget


class Panel(anywidget.AnyWidget):
    """A widget that leaves nothing behind in the kernel or on the page when it is closed."""

    def close(self) -> None:
        """Remove the panel and its layout, a separate widget, from the page."""
        layout = self.layout if self.comm is not None else None
        super().close()
        if layout is not None:
            layout.close()
