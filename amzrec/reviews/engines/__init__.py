"""What runs the expressions: DuckDB in this process, or Spark."""
