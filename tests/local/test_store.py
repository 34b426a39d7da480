"""The storage of a server: transactions, a temporary folder, and what is deleted."""

import tempfile
import threading
from io import BytesIO
from pathlib import Path

import pytest

from cfai.errors import ConfigError
from cfai.local.store import Store

from .adapters import CONFIG, GOOD_CONFIG, form
from .conftest import running

MISTRAL = "@cf/mistral/mistral-7b-instruct-v0.2-lora"
BATCH = "INSERT INTO batch (id, account, model, requests) VALUES (?, '0', 'm', '[]')"


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


async def test_what_raises_changes_nothing() -> None:
    store = Store(None)
    await store.open()

    def insert(db: object) -> None:
        db.execute(BATCH, ("a",))  # type: ignore[attr-defined]
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        await store.transact(insert)
    assert await store.execute("SELECT * FROM batch") is None
    assert await store.execute(BATCH, "b") is None
    row = await store.execute("SELECT id, number FROM batch")
    assert (row["id"], row["number"]) == ("b", 1)
    await store.close()


async def test_a_closed_store_is_named_and_can_be_closed_again() -> None:
    before = threading.active_count()
    store = Store(None)
    with pytest.raises(RuntimeError, match="the store is closed"):
        await store.execute("SELECT 1")
    await store.open()
    for _ in range(2):
        await store.close()
    assert threading.active_count() == before


async def test_without_a_folder_uploads_are_deleted_with_the_server(temporary: Path) -> None:
    """And nothing is left behind by a server without uploads, even if it is killed."""

    def folders() -> list[Path]:
        return list(temporary.glob("cfai-local-*"))

    async with running() as local:
        assert folders() == []
        url = f"{local.server.base_url}/accounts/0/ai/finetunes"
        async with local.http.post(url, json={"model": MISTRAL, "name": "pirate"}) as response:
            assert response.status == 200
        assert folders() == []
        body = form(("file_name", CONFIG.encode()), ("file", GOOD_CONFIG))
        headers = {"Content-Type": "multipart/form-data; boundary=cut"}
        url += "/pirate/finetune-assets"
        async with local.http.post(url, data=BytesIO(body), headers=headers) as response:
            asset = (await response.json())["result"]["id"]
        (folder,) = folders()
        assert [path.name for path in folder.iterdir()] == [asset]
        assert (folder / asset).read_bytes() == GOOD_CONFIG
    assert folders() == []


async def test_files_of_this_server_without_a_row_are_deleted(tmp_path: Path) -> None:
    """Complete and incomplete ones; a file with a row stays, as do those of others."""
    stored, lost = (f"{digit * 8}-1111-2222-3333-{digit * 12}" for digit in "ab")
    store = Store(tmp_path)
    await store.open()
    columns = "(number, id, account, name, model, public, created_at, modified_at)"
    await store.execute(f"INSERT INTO finetune {columns} VALUES (1, 'f', '', '', '', 0, '', '')")  # noqa: S608
    await store.execute("INSERT INTO asset VALUES (?, 'f', 'x', 1, '')", stored)
    assert store.partial_path(lost) == tmp_path / "files" / f"{lost}.part"
    names = [stored, f"{stored}.part", lost, f"{lost}.part", lost[:-1], f"{lost}.txt", "x.part"]
    for name in names:
        (store.files / name).write_bytes(b"x")
    await store.close()
    store = Store(tmp_path)
    await store.open()
    await store.close()
    left = {path.name for path in (tmp_path / "files").iterdir()}
    assert left == {stored, lost[:-1], f"{lost}.txt", "x.part"}


async def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    before = threading.active_count()
    (tmp_path / "local.db").write_bytes(b"no database" * 100)
    with pytest.raises(ConfigError, match=f"{tmp_path} cannot be used by this server: "):
        await Store(tmp_path).open()
    assert threading.active_count() == before
