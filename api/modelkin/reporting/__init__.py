"""An answer as a page that can be handed on: HTML, Markdown or PDF, with its pictures, in the reader's language."""
