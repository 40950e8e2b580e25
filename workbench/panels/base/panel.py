"""What every panel is: one widget, whose layout leaves with it."""

from __future__ import annotations

import anywidget


class Panel(anywidget.AnyWidget):
    """A widget that leaves nothing behind in the kernel or on the page when it is closed."""

    def close(self) -> None:
        """Take the panel and its layout, which is a widget of its own, off the page."""
        layout = self.layout if self.comm is not None else None
        super().close()
        if layout is not None:
            layout.close()
