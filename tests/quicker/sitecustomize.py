"""Makes the processes that tests start quicker to start: it lies on their path, see tests/conftest.py.

Whatever imports jsonschema, a Jupyter server for one, compiles a grammar of internationalised addresses,
which takes longer than all else that it imports. Without that module jsonschema only leaves such addresses
unchecked. A kernel imports a debugger, which no test uses.
Nearly all that they make while they start is there to stay, so the collector looks for garbage less often.
"""

import gc
import sys

gc.set_threshold(200_000)
for _name in ("rfc3987_syntax", "debugpy"):
    sys.modules.setdefault(_name, None)
