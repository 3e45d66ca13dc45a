"""RAG traces out of OpenTelemetry spans. Pure: spans in, traces out."""
