"""Valid adapter files, upload forms, and interrupted uploads."""

import asyncio
from pathlib import Path

import orjson

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"

GOOD_CONFIG = orjson.dumps({"r": 8, "model_type": "mistral", "peft_type": "LORA"})


def weights(size: int = 64) -> bytes:
    """A safetensors file with one tensor of *size* bytes."""
    return head(size) + bytes(size)


def head(size: int) -> bytes:
    entry = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
    header = orjson.dumps({"__metadata__": {"format": "pt"}, "layer.lora_A": entry})
    return len(header).to_bytes(8, "little") + header


def adapter(folder: Path, size: int = 64) -> Path:
    """Create an adapter's folder; its weights are a sparse file."""
    folder.mkdir()
    (folder / CONFIG).write_bytes(GOOD_CONFIG)
    with (folder / WEIGHTS).open("wb") as file:
        file.write(head(size))
        file.truncate(len(head(size)) + size)
    return folder


def form(*fields: tuple[str, bytes]) -> bytes:
    """Encode a form with the boundary `cut`; fields named `file` are files."""
    parts = [
        b'--cut\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
        % (name.encode(), b'; filename="blob"' if name == "file" else b"", value)
        for name, value in fields
    ]
    return b"".join(parts) + b"--cut--\r\n"


async def cut(base_url: str, path: str, body: bytes, *, after: int) -> None:
    """Send the first bytes of a form, then close the connection."""
    authority = base_url.split("/")[2]
    host, _, port = authority.partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        f"POST {path} HTTP/1.1\r\nHost: {authority}\r\nAuthorization: Bearer any\r\n"
        "Content-Type: multipart/form-data; boundary=cut\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
    )
    writer.write(body[:after])
    await writer.drain()
    writer.close()
    await writer.wait_closed()
