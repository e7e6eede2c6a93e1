"""`python -m webdnn_conformance`."""

import sys

from webdnn_conformance.command import main

if __name__ == "__main__":
    sys.exit(main())
