"""Models larger than one device: layers spread over several devices, frozen ones offloaded to the CPU or to disk.

Everything outside the decoder layers (embeddings, final norm, head) and everything that trains stays on a device. Of
the other layers as many stay as fit, the last ones first, because layers below the first trained one run only once.
accelerate's hooks load the offloaded weights of one module at a time while it runs. A safetensors file is mapped, not
copied.

    model = AutoModelForCausalLM.from_pretrained(name, device_map=device_map(...))
    is_offloaded(model.model.layers[0].self_attn.q_proj)                            # True
"""

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

# A device in transformers' device_map: the index of a GPU, "cpu", or "disk".
Device = int | str

_WEIGHTS_FRACTION = 0.8  # of a device's free memory, without `max_memory`; the rest is for activations


def device_map(
    model: nn.Module, path: str, engine: EngineConfig, device: torch.device, keep: Collection[int]
) -> dict[str, Device] | None:
    """The device of each module, for transformers' `from_pretrained`; None where the model fits on `device`.

    Args:
        model: the model on the meta device, in its dtype.
        path: canonical prefix of its decoder layers' parameters, such as `model.layers.`.
        engine: `devices`, `offload` and `max_memory` are used.
        device: of the run; with `devices: all` the first of several.
        keep: layers that must be on a device, because their own weights train.

    Raises:
        PACZeroError: it does not fit; or a run on the CPU would offload to the CPU.
    """
    if engine.offload == "cpu" and device.type == "cpu":
        raise PACZeroError(
            "engine.offload: 'cpu' was given, but the run computes on the CPU already; expected 'disk' or 'none'"
        )
    layers = [_bytes(layer.parameters()) for layer in model.get_submodule(path.rstrip(".")).children()]
    capacities = _capacities(engine, device)
    layer_devices = assign_layers(
        layers, _bytes(model.parameters()) - sum(layers), capacities, offload=engine.offload, keep=keep
    )
    if set(layer_devices) == {next(iter(capacities))}:
        return None
    around = dict.fromkeys(_outside(model, path.rstrip(".")), next(iter(capacities)))
    return around | {f"{path}{index}": name for index, name in enumerate(layer_devices)}


def assign_layers(
    layers: Sequence[int], outside: int, capacities: Mapping[Device, int], *, offload: str, keep: Collection[int] = ()
) -> list[Device]:
    """The device of each layer: the last layers on the last device, and so on down; the rest is offloaded.

    Args:
        layers: bytes of each.
        outside: bytes outside the layers; they go to the first device.
        capacities: bytes for weights on each device; the first one is that of the run.
        offload: `cpu` or `disk` for the rest; `none` if everything must fit.
        keep: layers that may not be offloaded.

    Raises:
        PACZeroError: they do not fit.
    """
    chosen: list[Device] = [offload] * len(layers)
    first, *_ = capacities
    if sum(layers) + outside <= capacities[first]:
        return [first] * len(layers)
    left = dict(capacities)
    left[first] -= outside
    if offload != "none" and sum(layers) + outside > sum(capacities.values()):
        left[first] -= max(layers)  # one offloaded layer at a time is loaded
    devices = list(reversed(capacities))
    for index in sorted(range(len(layers)), key=lambda index: (index in keep, index), reverse=True):
        while devices and left[devices[0]] < layers[index]:
            devices.pop(0)
        if devices:
            chosen[index] = devices[0]
            left[devices[0]] -= layers[index]
        elif offload == "none" or index in keep:
            raise PACZeroError(_does_not_fit(layers, outside, capacities, trained=index in keep))
    if left[first] < 0:
        raise PACZeroError(_does_not_fit(layers, outside, capacities, trained=False))
    return chosen


def _does_not_fit(layers: Sequence[int], outside: int, capacities: Mapping[Device, int], *, trained: bool) -> str:
    available = ", ".join(f"{capacity / 1e9:.3g} GB on {name}" for name, capacity in capacities.items())
    what = "what trains" if trained else "the weights"
    return (
        f"engine.max_memory: {available} for {sum(layers) / 1e9:.3g} GB of layers and {outside / 1e9:.3g} GB outside "
        f"them, into which {what} must fit; let frozen layers wait (--engine.offload cpu or disk), train fewer, use "
        "more devices (--engine.devices all), or raise it"
    )


def _capacities(engine: EngineConfig, device: torch.device) -> dict[Device, int]:
    """Bytes for weights on each device that may be used, that of the run first."""
    free = get_max_memory()
    free["cpu"] = min(free["cpu"], _left_in_container())
    if device.type == "cpu":
        used: list[Device] = ["cpu"]
    elif engine.devices == "all":
        used = [name for name in free if isinstance(name, int)]
    else:
        used = [torch.cuda.current_device() if device.index is None else device.index]
    limit = engine.max_memory
    return {name: int(free[name] * _WEIGHTS_FRACTION) if limit is None else limit for name in used}


def _left_in_container() -> int:
    """Bytes left below the memory limit of a container; 2^62 without a limit."""
    limit, used = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))
    if limit.is_file() and used.is_file() and (most := limit.read_text().strip()).isdigit():
        return max(0, int(most) - int(used.read_text()))
    return 2**62


def _bytes(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in parameters)


def _outside(model: nn.Module, path: str) -> list[str]:
    """The largest modules that contain no decoder layer."""
    names: list[str] = []
    module, prefix = model, ""
    for part in path.split("."):
        names += [prefix + name for name, _ in module.named_children() if name != part]
        module, prefix = module.get_submodule(part), f"{prefix}{part}."
    return names


# -- a model that was placed -----------------------------------------------------------------------------------------


def is_placed(model: nn.Module) -> bool:
    """Whether accelerate's hooks place the modules of a model; then the model must not be moved."""
    return any(_hooks(module) for module in model.modules())


def is_offloaded(module: nn.Module) -> bool:
    """Whether weights of this module, or of one inside it, are on its device only while it runs."""
    return any(hook.offload for part in module.modules() for hook in _hooks(part))


def _hooks(module: nn.Module) -> list[AlignDevicesHook]:
    hook = getattr(module, "_hf_hook", None)
    return [each for each in getattr(hook, "hooks", [hook]) if isinstance(each, AlignDevicesHook)]


def resident_bytes(model: nn.Module) -> int:
    """Bytes of weights on devices at most: those that stay, and those of the largest offloaded module."""
    passing = [
        _bytes(module.parameters(recurse=False)) for module in model.modules() if any(h.offload for h in _hooks(module))
    ]
    return _bytes(p for p in model.parameters() if not p.is_meta) + max(passing, default=0)


class WholeState(Mapping[str, Tensor]):
    """A model's state by name, tied weights once. Offloaded weights are loaded on access and not kept.

    Args:
        model: placed or not.
        names: preferred names of tied weights; the first name otherwise.
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
        return _loaded(self._model, name) if tensor.is_meta else tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._state)

    def __len__(self) -> int:
        return len(self._state)


def _loaded(model: nn.Module, name: str) -> Tensor:
    owner, _, leaf = name.rpartition(".")
    module = model.get_submodule(owner)
    for hook in _hooks(module):
        if hook.offload and hook.weights_map is not None:
            value: Tensor = hook.weights_map[leaf]
            return value.to(getattr(module, leaf).dtype)
    raise PACZeroError(f"model: {name} is on the meta device and no hook has its values; load it again")


def load_adapter(model: PreTrainedModel, folder: Path) -> nn.Module:
    """A saved adapter on a base model whose layers may be offloaded.

    PEFT's own `from_pretrained` would place the layers again and lose the values of offloaded ones.
    """
    from peft import PeftConfig, get_peft_model, load_peft_weights, set_peft_model_state_dict

    wrapped = get_peft_model(model, PeftConfig.from_pretrained(str(folder)))
    settle(wrapped)
    set_peft_model_state_dict(wrapped, load_peft_weights(str(folder), device="cpu"))
    return wrapped.eval()


def settle(attached: nn.Module) -> None:
    """Places the trained parameters of a model with offloaded layers.

    PEFT creates an adapter on the meta device beside an offloaded weight: it moves to the hook's device, without
    values. The model's own trained weights go into memory-mapped files on a CPU, so that they need not fit in memory.

    Raises:
        PACZeroError: trained weights are offloaded from a GPU.
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
    """Removes accelerate's hooks where nothing is offloaded and all weights are on one device."""
    hooks = [hook for module in model.modules() for hook in _hooks(module)]
    if hooks and not is_offloaded(model) and len({torch.device(h.execution_device) for h in hooks}) == 1:
        remove_hook_from_module(model, recurse=True)
        for module in model.modules():
            module.__dict__.pop("hf_device_map", None)


def _map(module: nn.Module, name: str) -> None:
    """Gives a module that is offloaded to disk its own weights, in memory-mapped files."""
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
    """A copy in a memory-mapped file without a name, which is removed when the process ends."""
    with tempfile.NamedTemporaryFile(prefix="paczero-") as file:
        file.write(value.contiguous().view(-1).view(torch.uint8).numpy().data)
        file.flush()
        copy = torch.from_file(file.name, shared=True, size=value.numel(), dtype=value.dtype)
    return copy.view(value.shape)
