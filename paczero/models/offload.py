"""Models larger than one device: layers laid over several of them, and frozen ones that wait on the CPU or on disk.

What lies outside the decoder layers (embeddings, final norm, head) and what trains stays on a device. Of the other
layers as many stay as fit, the last ones first: what lies below the first trained layer is needed only once. The rest
wait, and accelerate's hooks bring in the weights of one module at a time, for as long as it runs; a safetensors file
is read where it lies, so nothing is copied to disk.

>>> model = AutoModelForCausalLM.from_pretrained(name, device_map=device_map(...))           # doctest: +SKIP
>>> is_offloaded(model.model.layers[0].self_attn.q_proj)                                     # doctest: +SKIP
True
"""

import os
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from accelerate.hooks import AlignDevicesHook, remove_hook_from_module
from accelerate.utils import get_max_memory
from torch import Tensor, nn
from transformers import PreTrainedModel

from paczero.config import EngineConfig
from paczero.errors import PACZeroError

# A device as transformers' device_map names it: the index of a GPU, "cpu", or "disk".
Place = int | str

_SHARE_FOR_WEIGHTS = 0.8  # of a device's free memory, where `max_memory` is left out; the rest is for activations


def device_map(
    model: nn.Module, path: str, engine: EngineConfig, device: torch.device, keep: Collection[int]
) -> dict[str, Place] | None:
    """Where each module of a model goes, for transformers' `from_pretrained`; None where all of it fits on `device`.

    Args:
        model: the model on the meta device, with the types that it will have.
        path: canonical prefix of its decoder layers' parameters, such as `model.layers.`.
        engine: `devices`, `offload` and `max_memory` count.
        device: what the run computes on; with `devices: all` the first of several.
        keep: layers that must be on a device, since their own weights train.

    Raises:
        PACZeroError: it does not fit; or weights of a run on the CPU would wait on the CPU.
    """
    if engine.offload == "none" and engine.devices == "one":
        return None
    if engine.offload == "cpu" and device.type == "cpu":
        raise PACZeroError(
            "engine.offload: 'cpu' was given, but the run computes on the CPU already; expected 'disk' or 'none'"
        )
    layers = [_bytes(layer.parameters()) for layer in model.get_submodule(path.rstrip(".")).children()]
    rooms = _rooms(engine, device)
    places = lay_out(layers, _bytes(model.parameters()) - sum(layers), rooms, waiting=engine.offload, keep=keep)
    if set(places) == {next(iter(rooms))}:
        return None
    around = dict.fromkeys(_outside(model, path.rstrip(".")), next(iter(rooms)))
    return around | {f"{path}{index}": place for index, place in enumerate(places)}


def lay_out(
    layers: Sequence[int], outside: int, rooms: Mapping[Place, int], *, waiting: str, keep: Collection[int] = ()
) -> list[Place]:
    """Where each layer goes: the last ones to the last device, and so on down; what is left over waits.

    Args:
        layers: bytes of each.
        outside: bytes of what lies outside the layers; it goes to the first device.
        rooms: bytes that weights may take on each device, the one that computes first.
        waiting: `cpu` or `disk`, where the rest waits; `none` if nothing may.
        keep: layers that may not wait.

    Raises:
        PACZeroError: they do not fit.
    """
    places: list[Place] = [waiting] * len(layers)
    first, *_ = rooms
    if sum(layers) + outside <= rooms[first]:
        return [first] * len(layers)
    left = dict(rooms)
    left[first] -= outside
    if waiting != "none" and sum(layers) + outside > sum(rooms.values()):
        left[first] -= max(layers)  # of those that wait, one at a time passes through
    devices = list(reversed(rooms))
    for index in sorted(range(len(layers)), key=lambda index: (index in keep, index), reverse=True):
        while devices and left[devices[0]] < layers[index]:
            devices.pop(0)
        if devices:
            places[index] = devices[0]
            left[devices[0]] -= layers[index]
        elif waiting == "none" or index in keep:
            raise PACZeroError(_does_not_fit(layers, outside, rooms, trained=index in keep))
    if left[first] < 0:
        raise PACZeroError(_does_not_fit(layers, outside, rooms, trained=False))
    return places


def _does_not_fit(layers: Sequence[int], outside: int, rooms: Mapping[Place, int], *, trained: bool) -> str:
    rooms_said = ", ".join(f"{room / 1e9:.3g} GB on {place}" for place, room in rooms.items())
    what = "what trains" if trained else "the weights"
    return (
        f"engine.max_memory: {rooms_said} for {sum(layers) / 1e9:.3g} GB of layers and {outside / 1e9:.3g} GB outside "
        f"them, into which {what} must fit; let frozen layers wait (--engine.offload cpu or disk), train fewer, use "
        "more devices (--engine.devices all), or raise it"
    )


def _rooms(engine: EngineConfig, device: torch.device) -> dict[Place, int]:
    """Bytes for weights on each device that may be used, the one that computes first."""
    free = get_max_memory()
    free["cpu"] = min(free["cpu"], _left_in_container())
    if device.type == "cpu":
        used: list[Place] = ["cpu"]
    elif engine.devices == "all":
        used = [place for place in free if isinstance(place, int)]
    else:
        used = [torch.cuda.current_device() if device.index is None else device.index]
    limit = engine.max_memory
    return {place: int(free[place] * _SHARE_FOR_WEIGHTS) if limit is None else limit for place in used}


def _left_in_container() -> int:
    """Bytes that the limit of a container leaves; without one more than any machine has."""
    limit, used = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))
    if limit.is_file() and used.is_file() and (most := limit.read_text().strip()).isdigit():
        return max(0, int(most) - int(used.read_text()))
    return 2**62


def _bytes(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in parameters)


def _outside(model: nn.Module, path: str) -> list[str]:
    """The largest modules that hold none of the layers."""
    names: list[str] = []
    module, prefix = model, ""
    for part in path.split("."):
        names += [prefix + name for name, _ in module.named_children() if name != part]
        module, prefix = module.get_submodule(part), f"{prefix}{part}."
    return names


# -- a model that was loaded so --------------------------------------------------------------------------------------


def is_placed(model: nn.Module) -> bool:
    """Whether accelerate's hooks already say where the modules of a model compute; then it is not to be moved."""
    return any(_hooks(module) for module in model.modules())


def is_offloaded(module: nn.Module) -> bool:
    """Whether weights of this module, or of one inside it, wait elsewhere and are here only while it runs."""
    return any(hook.offload for part in module.modules() for hook in _hooks(part))


def _hooks(module: nn.Module) -> list[AlignDevicesHook]:
    hook = getattr(module, "_hf_hook", None)
    return [each for each in getattr(hook, "hooks", [hook]) if isinstance(each, AlignDevicesHook)]


def resident_bytes(model: nn.Module) -> int:
    """Bytes that the weights take on devices at most: those that stay, and the largest module's that come and go."""
    passing = [
        _bytes(module.parameters(recurse=False)) for module in model.modules() if any(h.offload for h in _hooks(module))
    ]
    return _bytes(p for p in model.parameters() if not p.is_meta) + max(passing, default=0)


class WholeState(Mapping[str, Tensor]):
    """A model's state by name, tied weights once. What waits elsewhere is fetched when asked for, and not kept.

    Args:
        model: its weights may be here or wait.
        names: of weights that are tied, the name among these is taken; else the first.
    """

    def __init__(self, model: nn.Module, names: Collection[str] = ()):
        self._model = model
        self._state: dict[str, Tensor] = {}
        seen: set[int] = set()
        state = model.state_dict()
        for name in sorted(state, key=lambda name: name not in names):
            tensor = state[name]
            if tensor.is_meta or tensor.data_ptr() not in seen:
                self._state[name] = tensor
            seen.add(tensor.data_ptr())

    def __getitem__(self, name: str) -> Tensor:
        tensor = self._state[name]
        return _fetched(self._model, name) if tensor.is_meta else tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._state)

    def __len__(self) -> int:
        return len(self._state)


def _fetched(model: nn.Module, name: str) -> Tensor:
    owner, _, leaf = name.rpartition(".")
    module = model.get_submodule(owner)
    for hook in _hooks(module):
        if hook.offload and hook.weights_map is not None:
            value: Tensor = hook.weights_map[leaf]
            return value.to(getattr(module, leaf).dtype)
    raise PACZeroError(f"model: {name} is on the meta device and nothing says where its values are; load it again")


def load_adapter(model: PreTrainedModel, folder: Path) -> nn.Module:
    """PEFT's model of an adapter that was saved, over a base model whose layers may wait.

    PEFT's own `from_pretrained` would lay the layers out anew and lose where their values are.
    """
    from peft import PeftConfig, get_peft_model, load_peft_weights, set_peft_model_state_dict

    wrapped = get_peft_model(model, PeftConfig.from_pretrained(str(folder)))
    settle(wrapped)
    set_peft_model_state_dict(wrapped, load_peft_weights(str(folder), device="cpu"))
    return wrapped.eval()


def settle(attached: nn.Module) -> None:
    """Puts trained parameters of a model whose layers wait where they are needed.

    PEFT puts a new adapter where the weight beside it is, and that is nowhere: it goes to the device that computes,
    with values still to be given. The model's own weights, where they train, go into memory-mapped files if the CPU
    computes, so that they need not fit into memory either.

    Raises:
        PACZeroError: weights train that wait for a GPU.
    """
    for module in attached.modules():
        adapters = getattr(module, "adapter_layer_names", ())
        for hook in _hooks(getattr(module, "base_layer", nn.Identity())):
            for adapter in (getattr(module, name, None) for name in adapters):
                if isinstance(adapter, nn.Module) and any(p.is_meta for p in adapter.parameters()):
                    adapter.to_empty(device=hook.execution_device)
    for name, module in attached.named_modules():
        if any(p.is_meta and p.requires_grad for p in module.parameters(recurse=False)):
            _map(module, name)
    _unhook_if_here(attached)


def _unhook_if_here(model: nn.Module) -> None:
    """Takes off hooks that have nothing left to do, since nothing waits and all is on one device."""
    hooks = [hook for module in model.modules() for hook in _hooks(module)]
    if hooks and not is_offloaded(model) and len({torch.device(h.execution_device) for h in hooks}) == 1:
        remove_hook_from_module(model, recurse=True)
        for module in model.modules():
            module.__dict__.pop("hf_device_map", None)


def _map(module: nn.Module, name: str) -> None:
    """Gives a module that waits on disk its own weights back, in files that are mapped and need no memory."""
    waiting = [hook for hook in _hooks(module) if hook.offload]
    if not waiting or torch.device(waiting[0].execution_device).type != "cpu":
        raise PACZeroError(
            f"engine.offload: weights of {name} train, but wait elsewhere; expected frozen ones. Train an adapter "
            "(peft), or chosen layers (train_layers), which then stay on the device"
        )
    mapped = {
        leaf: nn.Parameter(_in_file(waiting[0].weights_map[leaf].to(old.dtype)), requires_grad=old.requires_grad)
        for leaf, old in module.named_parameters(recurse=False)
    }
    remove_hook_from_module(module)
    for leaf, parameter in mapped.items():
        setattr(module, leaf, parameter)


def _in_file(value: Tensor) -> Tensor:
    """A copy that lies in a mapped file of its own, which has no name any more and goes when the process ends."""
    descriptor, path = tempfile.mkstemp(prefix="paczero-")
    try:
        size = value.numel() * value.element_size()
        if hasattr(os, "posix_fallocate"):  # a full disk is refused here; met while writing it would kill the process
            os.posix_fallocate(descriptor, 0, size)
        else:
            os.ftruncate(descriptor, size)
        copy = torch.from_file(path, shared=True, size=value.numel(), dtype=value.dtype)
    finally:
        os.close(descriptor)
        Path(path).unlink()
    return copy.view(value.shape).copy_(value)
