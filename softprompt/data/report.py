"""placeholder"""
from pathlib import Path
def write_dataset_report(path: Path, resolved, rows, findings) -> None:
    path.write_text("<html></html>")
