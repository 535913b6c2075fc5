"""`tfgrpo` with weights sharded among processes on a CPU, which accelerate does on GPUs only.

What is patched is accelerate's choice, by device, between sharding and plain data parallelism; the
sharding itself is that of `torch.distributed.fsdp`.
"""

from __future__ import annotations

from typing import Any

from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

from cli.main import run

_plain = Accelerator.__init__


def _sharding(self: Accelerator, *arguments: Any, **settings: Any) -> None:
    _plain(self, *arguments, **settings)
    if self.num_processes > 1:
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP
        self.state.distributed_type = DistributedType.FSDP
        self.state.fsdp_plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2,
            auto_wrap_policy="transformer_based_wrap",
            cpu_ram_efficient_loading=False,
        )


if __name__ == "__main__":
    Accelerator.__init__ = _sharding
    run()
