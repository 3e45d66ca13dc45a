"""A GGUF file's weights and vocabulary, through llama.cpp's C API.

Loading is separate from computing (`context`), because one set of weights may serve several contexts.
"""

import ctypes
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import llama_cpp

from monitor.domain.errors import JudgeUnavailable

log = logging.getLogger(__name__)

_PIECE_BYTES = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Offload:
    """What goes to a GPU; without a GPU back end in the build of llama.cpp it has no effect.

    Attributes:
        layers: layers to offload; -1 for all.
        main_gpu: the GPU that holds what is not split.
        tensor_split: share of the model for each GPU; empty lets llama.cpp share by free memory.
    """

    layers: int = -1
    main_gpu: int = 0
    tensor_split: tuple[float, ...] = ()


def _to_logging(_level: int, text: bytes, _data: object) -> None:
    line = text.decode(errors="replace").strip()
    if line and line != ".":
        log.debug("llama.cpp: %s", line)


# llama.cpp keeps a bare pointer to it, and logs for as long as the process lives.
_LOG_CALLBACK = llama_cpp.llama_log_callback(_to_logging)


@lru_cache(maxsize=1)
def _start_backend() -> None:
    llama_cpp.llama_log_set(_LOG_CALLBACK, None)
    llama_cpp.llama_backend_init()


class Model:
    """Weights and vocabulary.

    Args:
        path: the GGUF file.
        offload: what goes to a GPU.

    Raises:
        JudgeUnavailable: the file is missing, or is no model that llama.cpp can load.
    """

    def __init__(self, path: Path, offload: Offload = Offload()) -> None:
        if not path.is_file():
            raise JudgeUnavailable(f"GGUF model {str(path)!r}: no such file")
        _start_backend()
        parameters = llama_cpp.llama_model_default_params()
        parameters.n_gpu_layers = offload.layers
        parameters.main_gpu = offload.main_gpu
        split = self._split(offload.tensor_split)
        if split is not None:
            parameters.tensor_split = split
        handle = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        if not handle:
            raise JudgeUnavailable(f"GGUF model {str(path)!r}: llama.cpp cannot load it")
        self.path = path
        self.handle = handle
        self.vocabulary = llama_cpp.llama_model_get_vocab(handle)
        self.words = int(llama_cpp.llama_vocab_n_tokens(self.vocabulary))
        self.trained_context = int(llama_cpp.llama_model_n_ctx_train(handle))
        # A recurrent state holds everything read so far at once: no part of it can be kept or copied.
        self.is_recurrent = bool(llama_cpp.llama_model_is_recurrent(handle) or llama_cpp.llama_model_is_hybrid(handle))

    @staticmethod
    def _split(shares: Sequence[float]) -> object | None:
        if not shares:
            return None
        devices = max(int(llama_cpp.llama_max_devices()), len(shares))
        return (ctypes.c_float * devices)(*shares)

    def close(self) -> None:
        """Free the weights; no context of theirs may be used afterwards."""
        if self.handle:
            llama_cpp.llama_model_free(self.handle)
            self.handle = None

    def tokens(self, text: str, *, control: bool = False) -> list[int]:
        """Tokens of a text; with `control`, what spells a control token becomes one, so never for judged text."""
        raw = text.encode(errors="replace")
        if not raw:
            return []
        room = len(raw) + 2
        found = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(self.vocabulary, raw, len(raw), found, room, False, control)
        if count < 0:
            raise RuntimeError(f"llama.cpp could not tokenise {len(raw)} bytes")
        return list(found[:count])

    def piece(self, token: int, *, control: bool = False) -> bytes:
        """The bytes that a token stands for: not always whole characters."""
        buffer = ctypes.create_string_buffer(_PIECE_BYTES)
        count = llama_cpp.llama_token_to_piece(self.vocabulary, token, buffer, _PIECE_BYTES, 0, control)
        if count < 0:
            buffer = ctypes.create_string_buffer(-count)
            count = llama_cpp.llama_token_to_piece(self.vocabulary, token, buffer, -count, 0, control)
        return buffer.raw[:count]

    def text(self, tokens: Sequence[int]) -> str:
        """The text that tokens spell, control tokens left out."""
        return b"".join(map(self.piece, tokens)).decode(errors="replace")

    def ends(self, token: int) -> bool:
        """Whether a token ends a generation."""
        return bool(llama_cpp.llama_vocab_is_eog(self.vocabulary, token))

    def metadata(self, key: str) -> str | None:
        """One value of the file's metadata, as text."""
        buffer = ctypes.create_string_buffer(_PIECE_BYTES)
        length = llama_cpp.llama_model_meta_val_str(self.handle, key.encode(), buffer, _PIECE_BYTES)
        return None if length < 0 else buffer.value.decode(errors="replace")

    @property
    def chat_template(self) -> str | None:
        """The file's own chat template, in Jinja."""
        template = llama_cpp.llama_model_chat_template(self.handle, None)
        return None if template is None else template.decode(errors="replace")

    @property
    def quantisation(self) -> str | None:
        """`Q4_K_M`, `F16`, … as llama.cpp names the file's type."""
        file_type = self.metadata("general.file_type")
        prefixes = ("LLAMA_FTYPE_MOSTLY_", "LLAMA_FTYPE_ALL_")
        names = {
            str(getattr(llama_cpp, name)): name.removeprefix(prefix)
            for prefix in prefixes
            for name in dir(llama_cpp)
            if name.startswith(prefix)
        }
        return names.get(str(file_type))


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex. Remembered in this process for as long as size and time of change stay."""
    stat = path.stat()
    return _digest(path.resolve(), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=16)
def _digest(path: Path, _size: int, _changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
