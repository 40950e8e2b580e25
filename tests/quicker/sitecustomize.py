"""Makes the processes that tests start quicker to start: it lies on their path, see tests/conftest.py.

Whatever imports jsonschema, a Jupyter server for one, compiles a grammar of internationalised addresses,
which takes longer than all else that it imports. Without that module jsonschema only leaves such addresses
unchecked.
"""

import sys

sys.modules.setdefault("rfc3987_syntax", None)
