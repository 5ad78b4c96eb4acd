"""The engine is judged by the models, drafters and laws with which speculative decoding is."""
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "decoding"))
