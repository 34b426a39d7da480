"""The speech recognizer, Moonshine tiny-en, on onnxruntime. English only.

The encoder turns 16 kHz samples into states; the decoder writes one token at a time, the most
likely one. The model writes no times.
"""

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfai.local.backends.onnx import open_session
from cfai.local.backends.roles import IsCancelled, Recognized

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_RATE = 16_000
_BEGIN, _END = 1, 2
_TOKENS_PER_SECOND = 6.5
"""Nobody speaks faster; a longer text repeats itself. Source: Moonshine's paper, section 3."""

_LEAST_TOKENS = 8
_LEAST_SAMPLES = 1600
"""The encoder's filters need as many."""

_BYTE = re.compile(rb"<0x([0-9A-F]{2})>")
_SPACE = "\u2581"


class Moonshine:
    """The recognizer. Thread-safe."""

    name = "moonshine-tiny-en"

    def __init__(self, encoder: Path, decoder: Path, tokens: Path) -> None:
        self._encoder = open_session(encoder, threads=2)
        self._decoder = open_session(decoder, threads=2)
        self._tokens = list(_read_tokens(tokens.read_bytes()))
        self._outputs = [output.name for output in self._decoder.get_outputs()]
        self._empty = self._build_empty_cache()

    def transcribe(
        self, samples: "NDArray[np.float32]", *, is_cancelled: IsCancelled = lambda: False
    ) -> Recognized:
        """Transcribe speech of up to half a minute: 16 kHz, mono, from -1 to 1.

        If cancelled, the text ends early.
        """
        import numpy as np

        missing = max(0, _LEAST_SAMPLES - len(samples))
        inputs = np.pad(samples, (0, missing)).astype(np.float32)[None]
        mask = np.ones(inputs.shape, np.int64)
        states = self._encoder.run(None, {"input_values": inputs, "attention_mask": mask})[0]
        most = max(_LEAST_TOKENS, math.ceil(len(samples) / _RATE * _TOKENS_PER_SECOND))
        # The decoder's graph takes every 384th value of the mask itself.
        fixed = {"encoder_hidden_states": states, "encoder_attention_mask": mask}
        ids: list[int] = []
        log_probability = 0.0
        for token, probability in self._decode(fixed, most):
            log_probability += math.log(max(probability, 1e-10))
            if token == _END or is_cancelled():
                break
            ids.append(token)
        return Recognized(self._decode_text(ids), log_probability / (len(ids) + 1))

    def _decode(self, fixed: dict[str, Any], most: int) -> Iterator[tuple[int, float]]:
        """Yield the tokens and their probabilities."""
        import numpy as np

        cache, token = dict(self._empty), _BEGIN
        for step in range(most):
            inputs = {
                "input_ids": np.array([[token]], np.int64),
                "use_cache_branch": np.array([step > 0]),
                **fixed,
                **cache,
            }
            outputs = dict(zip(self._outputs, self._decoder.run(None, inputs), strict=True))
            logits = outputs["logits"][0, -1]
            token = int(logits.argmax())
            yield token, 1 / float(np.exp(logits - logits[token]).sum())
            for name in cache:
                # What the decoder reads of the encoder's states is the same in each step.
                if step == 0 or ".decoder." in name:
                    cache[name] = outputs[name.replace("past_key_values", "present")]

    def _build_empty_cache(self) -> dict[str, Any]:
        import numpy as np

        inputs = {node.name: node.shape for node in self._decoder.get_inputs()}
        return {
            name: np.zeros((1, shape[1], 0, shape[3]), np.float32)
            for name, shape in inputs.items()
            if name.startswith("past_key_values")
        }

    def _decode_text(self, ids: Sequence[int]) -> str:
        raw = bytearray()
        for index in ids:
            token = self._tokens[index]
            if (match := _BYTE.fullmatch(token)) is not None:
                raw.append(int(match[1], 16))
            elif not (token.startswith(b"<") and token.endswith(b">")):
                raw += token
        return raw.decode(errors="replace").replace(_SPACE, " ").strip()


def _read_tokens(data: bytes) -> Iterator[bytes]:
    """Yield the tokens of `tokenizer.bin`: each has its length before it, in one byte or two."""
    position = 0
    while position < len(data):
        length = data[position]
        position += 1
        if length >= 128:
            length += 128 * data[position] - 128
            position += 1
        yield data[position : position + length]
        position += length
