"""``python -m centernet_d2`` is ``centernet-d2``."""

import sys

from centernet_d2.cli import main

if __name__ == "__main__":
    sys.exit(main())
