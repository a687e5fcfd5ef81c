"""The full-screen app in a browser: textual-serve's server behind a token."""
