"""Writing a bundle: memory plan, weights, programs, entry files. docs/bundle-format.md defines what is written."""
