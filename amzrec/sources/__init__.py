"""Review sources: each file reads one family of layouts into one relation."""
