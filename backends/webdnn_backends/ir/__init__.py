"""The loop IR, its verifier and its interpreter."""
