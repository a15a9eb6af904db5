"""The steps of the how-to “Add the app to your Django project”, for the settings and URLs of the host projects."""

from batches.tests.support.documents import find_blocks, read_page


def read_step(file: str) -> str:
    """The code that the page shows for this file."""
    title = f"# {file}\n"
    blocks = find_blocks(read_page("how-to/embed.md"), "python")
    [code] = [block.text.removeprefix(title) for block in blocks if block.text.startswith(title)]
    return code
