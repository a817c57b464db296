"""Where the token of the preview page comes from, and who can read it."""

import os
import stat
import threading

import pytest

from fer_edge.edge_runtime.live.stats import PipelineStats
from fer_edge.edge_runtime.outputs.preview import PreviewServer
from fer_edge.edge_runtime.outputs.token import checked_token, stored_token, token_from_user, token_path

TOKEN = "a-token-of-this-test"


@pytest.fixture(autouse=True)
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


def test_the_token_is_kept_across_restarts_and_only_its_user_can_read_it(config):
    first = stored_token()
    path = config / "fer-edge" / "token"
    assert len(first) >= 16
    assert stored_token() == first == path.read_text().strip()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [file.name for file in path.parent.iterdir()] == ["token"]


def test_a_page_that_is_reachable_from_outside_uses_the_stored_token():
    urls = []
    for _ in range(2):
        server = PreviewServer("0.0.0.0:0", PipelineStats())
        urls.append(server.url.partition("?")[2])
        server.close(True)
    assert urls == [f"token={stored_token()}"] * 2
    server = PreviewServer("127.0.0.1:0", PipelineStats(), "signs&are=quoted#here")
    server.close(True)
    assert server.url.endswith("?token=signs%26are%3Dquoted%23here")


@pytest.mark.parametrize(
    ("content", "mode", "reason"), [(TOKEN, 0o644, "could be read by other users"), ("short", 0o600, "does not contain")]
)
def test_a_stored_token_that_is_exposed_or_invalid_is_replaced(content, mode, reason):
    path = token_path()
    path.parent.mkdir()
    path.write_text(content)
    path.chmod(mode)
    messages = []
    token = stored_token(messages.append)
    assert token != content
    assert token == stored_token()
    assert len(messages) == 1
    assert reason in messages[0]


def test_a_token_that_cannot_be_stored_still_protects_the_page(config):
    (config / "fer-edge").write_text("a file where the folder should be")
    messages = []
    assert len(stored_token(messages.append)) >= 16
    assert "the token cannot be stored" in messages[0]


def test_processes_that_start_together_get_the_same_token():
    tokens = []
    threads = [threading.Thread(target=lambda: tokens.append(stored_token())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(tokens)) == 1


def test_the_user_gives_a_token_in_a_file_or_a_variable(config, monkeypatch):
    assert token_from_user(None) is None
    monkeypatch.setenv("FER_EDGE_TOKEN", "")
    assert token_from_user(None) is None
    monkeypatch.setenv("FER_EDGE_TOKEN", TOKEN)
    assert token_from_user(None) == TOKEN
    (config / "token.txt").write_text("another-token-of-this-test\n")
    (config / "token.txt").chmod(0o600)
    messages = []
    assert token_from_user(f"@{config / 'token.txt'}", messages.append) == "another-token-of-this-test"
    assert messages == []


def test_a_token_that_others_can_see_is_used_with_a_warning(config):
    messages = []
    assert token_from_user(TOKEN, messages.append) == TOKEN
    (config / "token.txt").write_text(TOKEN)
    (config / "token.txt").chmod(0o644)
    token_from_user(f"@{config / 'token.txt'}", messages.append)
    assert ["list of processes" in messages[0], f"chmod 600 {config / 'token.txt'}" in messages[1]] == [True, True]


@pytest.mark.parametrize("token", ["", "x" * 15, "with spaces in it", "ümlaute-im-zugangswort", "line\nbreak-in-the-token"])
def test_a_short_or_unusable_token_is_rejected_without_showing_it(token):
    with pytest.raises(ValueError, match=f"needs at least 16 characters. Received: {len(token)}") as error:
        checked_token(token)
    assert not token or token not in str(error.value)


def test_a_missing_token_file_is_named():
    with pytest.raises(OSError, match=r"cannot read the token from '/none'.*takes @ and a file's name"):
        token_from_user("@/none")


def test_a_token_from_a_pipe_is_read():
    read, write = os.pipe()
    os.write(write, TOKEN.encode())
    os.close(write)
    assert token_from_user(f"@/dev/fd/{read}") == TOKEN
    os.close(read)
