"""Parquet: the verdict history as files, for whatever is no Postgres. The only room that knows pyarrow.

`datasets` says what the files hold, `decoding` and `hour_file` make them, `directory` publishes them under a `manifest`
so that a reader sees whole hours only, `counting` reads them back.
"""
