"""A registry's pages for a browser, and its answers as JSON over HTTP."""
