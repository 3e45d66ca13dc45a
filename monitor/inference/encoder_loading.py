"""The encoder judge from settings."""

from typing import TYPE_CHECKING

from monitor.config import Settings
from monitor.domain.errors import JudgeUnavailable

if TYPE_CHECKING:
    from monitor.inference.encoder import EncoderJudge


def load_encoder(settings: Settings) -> "EncoderJudge | None":
    """The encoder judge, or None when no manifest is set.

    Raises:
        JudgeUnavailable: the extra is not installed, or model, tokenizer and manifest cannot be used together.
    """
    wanted = settings.encoder
    if wanted.manifest is None:
        return None
    try:
        # `tokenizers` is an extra: most installations judge without an encoder.
        from monitor.inference.encoder import EncoderJudge  # noqa: PLC0415 - `tokenizers` is an extra
    except ImportError as error:
        raise JudgeUnavailable(f"an encoder judge needs the extra groundwatch[encoder]: {error}") from error
    return EncoderJudge(wanted.manifest, threads=wanted.threads, most_windows=wanted.max_windows)
