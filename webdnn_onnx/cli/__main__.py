"""`python -m webdnn_onnx.cli`."""

import sys

from webdnn_onnx.cli.main import main

sys.exit(main())
