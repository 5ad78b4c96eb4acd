"""How memory and requests are managed: blocks, block tables, the scheduler, the engine."""
from minilm.serving.blocks import BlockPool, BlockTable, OutOfBlocks, prefix_keys
from minilm.serving.engine import Engine
from minilm.serving.paged_cache import Feed, PagedBatch, PagedCache, PagedSequence
from minilm.serving.request import Step

__all__ = ["BlockPool", "BlockTable", "Engine", "Feed", "OutOfBlocks", "PagedBatch", "PagedCache", "PagedSequence",
           "Step", "prefix_keys"]
