"""The console: what approvers use, over HTTP, beside the data path."""
