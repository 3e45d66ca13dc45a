"""The edge judge: any GGUF model under llama.cpp, read at the verdict's token.

    judge ─▶ reading (windows, prompts) ─▶ engine (continuous batching) ─▶ context ─▶ model
                    └──────▶ reasoning (grammar) ──────┘

Nothing is generated for a verdict. The reply's beginning is forced (`{"SCORE": "` for Lynx) and the log-odds of
the two verdict words are read from the logits at the first token in which they differ: one prefill a trace,
deterministic, and a score that calibration can work with. Reasoning is written only where it is asked for.
"""

from monitor.inference.gguf.judge import GgufJudge
from monitor.inference.gguf.model import file_digest

__all__ = ["GgufJudge", "file_digest"]
