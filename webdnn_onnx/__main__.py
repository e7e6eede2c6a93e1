"""`python -m webdnn_onnx`."""

import sys

from webdnn_onnx.cli.main import main

sys.exit(main())
