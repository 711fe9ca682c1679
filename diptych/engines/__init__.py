"""What runs a tower.

Import this before torch: on a Mac, PyTorch reads while it loads whether operators that Apple's GPU lacks may run on the
processor.
"""

import os
import sys

if sys.platform == "darwin":
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
