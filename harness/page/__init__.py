"""Frame to page: charts, small themed SVG, one self-contained HTML file."""
