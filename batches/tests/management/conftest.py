import pytest

from batches.tests.support.factories import unchanged


@pytest.fixture
def refuse(manage):
    """Runs a command that is refused and changes nothing, and returns the reason."""

    def run(*arguments):
        with unchanged():
            output = manage(*arguments)
        assert (output.code, output.out) == (1, "")
        return output.err

    return run


@pytest.fixture
def list_file(tmp_path):
    """Writes a list to a file, by default of three addresses, and returns its path."""

    def write(content="https://0.example/\nhttps://1.example/\nhttps://2.example/\n", name="morning.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write
