"""Self-contained HTML pages: skeleton and style, charts, and pictures of brains; no study, run or network."""
