"""Reports of a run: a page for the browser, and Markdown to keep beside the code."""
