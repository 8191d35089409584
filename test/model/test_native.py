import os
import threading
import weakref
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from computation.errors import ModelError
from computation.model import native
from computation.model.native import build, chain, loader, volumes

needs_kernels = pytest.mark.skipif(not native.status().available, reason=native.status().reason)
INSTRUCTIONS = [name for name in ("avx512", "avx2", "portable") if loader.use(name)]
if INSTRUCTIONS:
    loader.use(INSTRUCTIONS[0])
STATM = Path("/proc/self/statm")
ACTIVATIONS = {"none": nn.Identity, "relu": nn.ReLU, "elu": nn.ELU, "gelu": nn.GELU}
NORMS = {"none": lambda c: nn.Identity(), "instance": lambda c: nn.GroupNorm(c, c), "batch": nn.BatchNorm3d}
STYLES = [(n, a) for n in NORMS for a in ACTIVATIONS]


@contextmanager
def using(instructions):
    assert loader.use(instructions)
    try:
        yield
    finally:
        loader.use(INSTRUCTIONS[0])


def tensor(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def close(found, wanted, terms, usual=0.0):
    """Within the rounding of a float32 sum of that many terms, relative to the largest, or a usual, value."""
    scale = max(wanted.abs().max().item(), usual)
    return (found.double() - wanted).abs().max().item() <= 4e-7 * (3 + terms**0.5) * scale


class Net(nn.Module):
    """The same network twice: as torch modules, and as arguments of `native.stack`."""

    def __init__(self, norm, activation, width=5, dilations=(1, 2, 4), classes=3, channels=1):
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.activation = norm, activation
        self.convs = nn.ModuleList(
            nn.Conv3d(width if i else channels, width, 3, padding=d, dilation=d) for i, d in enumerate(dilations)
        )
        self.norms = nn.ModuleList(NORMS[norm](width) for _ in dilations)
        self.head = nn.Conv3d(width, classes, 1)
        for parameter in self.norms.parameters():
            nn.init.normal_(parameter)

    def forward(self, x):
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = ACTIVATIONS[self.activation]()(norm(conv(x)))
        return self.head(x)

    def blocks(self):
        names = {"gamma": "weight", "beta": "bias", "running_mean": "running_mean", "running_var": "running_var"}
        return [
            native.Block(c.weight, c.bias, dilation=c.dilation[0], **{k: getattr(n, v, None) for k, v in names.items()})
            for c, n in zip(self.convs, self.norms, strict=True)
        ]

    def native(self, x, keep=1):
        style = native.Style(self.norm, self.activation, self.training, keep=keep)
        return native.stack(x, self.blocks(), native.Block(self.head.weight, self.head.bias), style)


def gradients(output, grad, x, model):
    output.backward(grad.to(output.dtype))
    return [x.grad, *(p.grad for p in model.parameters())]


@needs_kernels
@pytest.mark.parametrize("instructions", INSTRUCTIONS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_convolution_agrees_with_torch_on_any_shape(instructions, data):
    channels = st.sampled_from([1, 2, 3, 5, 8, 11, 16, 21, 30, 32])
    inside, outside = data.draw(channels), data.draw(channels)
    size = [data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12)), data.draw(st.integers(1, 40))]
    dilation, kernel = data.draw(st.sampled_from([1, 2, 3, 4, 8, 16])), data.draw(st.sampled_from([3, 3, 1]))
    assert all(convolution_agrees(instructions, data.draw(st.integers(1, 2)), inside, outside, size, dilation, kernel))


@needs_kernels
@pytest.mark.parametrize("instructions", INSTRUCTIONS)
@pytest.mark.parametrize("size", [(37, 21, 17), (70, 35, 9), (39, 9, 20), (9, 39, 20), (70, 2, 17), (1, 67, 16)])
def test_many_tiles_and_segments_of_every_unit_agree_with_torch(instructions, size):
    """More rows than a tile and more planes than a segment, in units of 4, 3 and 2 outputs."""
    assert all(convolution_agrees(instructions, 1, 5, 3, size, dilation=1, kernel=3))


def convolution_agrees(instructions, samples, inside, outside, size, dilation, kernel):
    """Tell of the output and of the gradients of input, weight and bias whether they are close to torch's."""
    x = tensor(samples, inside, *size)
    weight, bias = tensor(outside, inside, *[kernel] * 3, seed=1), tensor(outside, seed=2)
    arguments = [t.requires_grad_() for t in (x, weight, bias)]
    exact = [t.detach().double().requires_grad_() for t in arguments]
    wanted = F.conv3d(*exact, padding=dilation * (kernel // 2), dilation=dilation)
    grad = tensor(*wanted.shape, seed=3)
    wanted.backward(grad.double())
    with using(instructions):
        found = native.conv3d(*arguments, dilation)
        found.backward(grad)
    terms = [inside * kernel**3, outside * kernel**3, x[:, 0].numel(), x[:, 0].numel()]
    results = zip([found, *(t.grad for t in arguments)], [wanted, *(t.grad for t in exact)], terms, strict=True)
    # Sums of products of normal numbers.
    return [close(mine.detach(), theirs.detach(), count, usual=count**0.5) for mine, theirs, count in results]


@needs_kernels
@pytest.mark.parametrize("dilation", [1, 2, 5])
def test_gradcheck_of_the_convolution(dilation):
    x = tensor(2, 2, 3, 4, 5, dtype=torch.float64).requires_grad_()
    weight = tensor(3, 2, 3, 3, 3, seed=1, dtype=torch.float64).requires_grad_()
    bias = tensor(3, seed=2, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda *t: native.conv3d(*t, dilation), (x, weight, bias), fast_mode=True)


@needs_kernels
@pytest.mark.parametrize(("norm", "activation"), STYLES)
@pytest.mark.parametrize("keep", [1, 2])
def test_gradcheck_of_the_network(norm, activation, keep):
    model = Net(norm, activation, width=3, dilations=(1, 2, 1), classes=2).double()
    x = tensor(2, 1, 4, 3, 5, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda t, *_: model.native(t, keep), (x, *model.parameters()), fast_mode=True)


@needs_kernels
@pytest.mark.parametrize("instructions", INSTRUCTIONS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("norm", "activation"), STYLES)
def test_network_agrees_with_torch_modules(instructions, norm, activation, training):
    model, exact = Net(norm, activation).train(training), Net(norm, activation).double().train(training)
    x, grad = tensor(2, 1, 9, 7, 19), tensor(2, 3, 9, 7, 19, seed=1)
    mine, theirs = x.clone().requires_grad_(), x.double().requires_grad_()
    wanted = exact(theirs)
    with using(instructions):
        found = model.native(mine)
        mine_gradients = gradients(found, grad, mine, model)
    assert close(found.detach(), wanted.detach(), 400)
    their_gradients = gradients(wanted, grad, theirs, exact)
    largest = max(p.grad.abs().max() for p in exact.parameters())
    for a, b in zip(mine_gradients, their_gradients, strict=True):
        assert (a.double() - b).abs().max() <= 3e-6 * largest
    for a, b in zip(model.buffers(), exact.buffers(), strict=True):
        assert a.dtype == torch.int64 or torch.allclose(a.double(), b, rtol=1e-5)


@needs_kernels
@pytest.mark.parametrize("width", [5, 16])
def test_rounding_is_no_worse_than_of_torch(width):
    """Nine layers of products of transformed tiles, against PyTorch's own float32 error of the same network."""
    dilations = (1, 2, 4, 8, 16, 8, 4, 2, 1)
    model, exact = (Net("instance", "elu", width, dilations).to(kind) for kind in (torch.float32, torch.float64))
    x, grad = tensor(1, 1, 33, 30, 35), tensor(1, 3, 33, 30, 35, seed=1)

    def errors(compute):
        theirs, mine = x.double().requires_grad_(), x.clone().requires_grad_()
        model.zero_grad(), exact.zero_grad()
        wanted, found = exact(theirs), compute(mine)
        pairs = zip(
            [found, *gradients(found, grad, mine, model)],
            [wanted, *gradients(wanted, grad, theirs, exact)],
            strict=True,
        )
        return [((a.double() - b).norm() / b.norm()).item() for a, b in pairs if b.norm() > 1e-6]  # not convs' biases

    mine, torchs = errors(model.native), errors(model)
    assert all(a <= 2e-7 + 2 * b for a, b in zip(mine, torchs, strict=True))


@needs_kernels
@pytest.mark.parametrize(("norm", "activation"), STYLES)
def test_one_layer_agrees_with_torch_modules(norm, activation):
    model = Net(norm, activation, dilations=(2,), channels=4)
    x = tensor(2, 4, 6, 5, 33)
    mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    found = native.layer(mine, model.blocks()[0], native.Style(norm, activation))
    wanted = ACTIVATIONS[activation]()(model.norms[0](model.convs[0](theirs)))
    grad = tensor(*found.shape, seed=1)
    found.backward(grad)
    wanted.backward(grad)
    assert torch.allclose(found, wanted, atol=3e-6)
    assert torch.allclose(mine.grad, theirs.grad, atol=3e-6)


@needs_kernels
def test_recomputation_changes_no_bit_and_counts_statistics_once():
    results = []
    for keep in (1, 2, 3, 5):
        model = Net("batch", "gelu", dilations=(1, 2, 4, 2, 1))
        x = tensor(1, 1, 8, 9, 20).requires_grad_()
        model.native(x, keep).sum().backward()
        results.append([x.grad, *model.buffers(), *(p.grad for p in model.parameters())])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    buffers = len(list(model.buffers()))
    assert all(torch.equal(a, b) for o in results for a, b in zip(results[0][1:buffers], o[1:buffers], strict=True))


@needs_kernels
def test_same_bits_whatever_the_threads():
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 2, 3):
            torch.set_num_threads(threads)
            model, x = Net("instance", "elu"), tensor(2, 1, 20, 33, 17).requires_grad_()
            output = model.native(x)
            found.append([output.detach(), *gradients(output, tensor(*output.shape, seed=1), x, model)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


@pytest.fixture
def live(monkeypatch):
    """Count the volumes that exist at once, kept ones included, through the one function that makes them."""
    alive, most, made = weakref.WeakSet(), [0], volumes.fresh

    def fresh(x, channels):
        out = made(x, channels)
        alive.add(out)
        most[0] = max(most[0], len(alive))
        return out

    volumes.trim()
    volumes._STORE.select(None)
    monkeypatch.setattr(volumes, "fresh", fresh)
    return most


@needs_kernels
def test_inference_holds_two_activations(live):
    model, x = Net("instance", "elu", dilations=(1,) * 9), tensor(1, 1, 6, 6, 6)
    with torch.no_grad():
        found = model.native(x)
    assert live == [3]  # two activations, then the result while the last of them is read
    assert torch.equal(found, model.native(x))


@needs_kernels
def test_used_memory_never_reaches_a_caller(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(chain, "give", lambda volume: None)
        expected = reuse()
    monkeypatch.setattr(volumes, "HUGE", 1)  # so that results lie in used memory, too
    for _ in range(3):
        for mine, fresh in zip(reuse(), expected, strict=True):
            assert torch.equal(mine, fresh)


@needs_kernels
def test_a_result_s_memory_is_used_again_once_nobody_holds_it(monkeypatch):
    monkeypatch.setattr(volumes, "HUGE", 1)
    x, weight = tensor(1, 5, 6, 7, 8), torch.zeros(5, 5, 3, 3, 3)
    result = native.conv3d(x, weight)
    address, part = result.data_ptr(), result[0, 1:]
    del result
    assert native.conv3d(x, weight).data_ptr() != address
    del part
    assert native.conv3d(x, weight).data_ptr() == address


@needs_kernels
def test_results_that_end_together_are_not_all_kept(monkeypatch):
    monkeypatch.setattr(volumes, "HUGE", 1)
    x, weight = tensor(1, 5, 6, 7, 8), torch.zeros(5, 5, 3, 3, 3)
    results = [native.conv3d(x, weight) for _ in range(6)]
    monkeypatch.setattr(volumes, "KEPT", 3 * results[0].nbytes)
    results.clear()
    assert len(volumes._LENT.free) == 3


@needs_kernels
@pytest.mark.skipif(not STATM.exists(), reason="needs Linux's account of a process's memory")
def test_a_thread_that_ends_leaves_no_memory_behind():
    def resident():
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def work():
        torch.set_num_threads(1)
        native.conv3d(x, weight).sum().backward()

    x, weight = tensor(1, 8, 16, 16, 96).requires_grad_(), tensor(8, 8, 3, 3, 3, seed=1).requires_grad_()
    threads, sizes = torch.get_num_threads(), []
    for count in (5, 40):
        for _ in range(count):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        sizes.append(resident())
    torch.set_num_threads(threads)
    assert sizes[1] - sizes[0] < 32 << 20


def reuse():
    """Interleave networks of one shape whose results are looked at only at the end."""
    results, x = [], tensor(1, 5, 6, 7, 8)
    for keep in (1, 2):
        model = Net("instance", "elu", channels=5, classes=5)
        first, second = (t.requires_grad_() for t in (x.clone(), x * 2))
        plain = native.conv3d(first, model.convs[0].weight)
        layer = native.layer(second, model.blocks()[1], native.Style())
        output = model.native(first, keep)
        (output * layer + plain).sum().backward(retain_graph=True)
        with torch.no_grad():
            results += [model.native(second), native.conv3d(first, model.convs[0].weight)]
        output.sum().backward()
        results += [plain, layer, output, first.grad, second.grad, *(p.grad for p in model.parameters())]
    return results


@needs_kernels
@pytest.mark.parametrize(("keep", "volumes"), [(1, 11), (2, 6), (3, 5)])
def test_training_holds_what_keep_promises(live, keep, volumes):
    model = Net("instance", "elu", dilations=(1,) * 9)
    model.native(tensor(1, 1, 6, 6, 6), keep).sum().backward()
    assert live[0] <= volumes + 1  # and the output itself
    assert native.keep_within(volumes * 4 * 216 * 5, 216, 5, 9) == keep


@needs_kernels
def test_statistics_survive_a_large_mean():
    weight, x = torch.zeros(1, 1, 3, 3, 3), tensor(1, 1, 20, 20, 20)
    weight[0, 0, 1, 1, 1] = 1
    found = native.layer(x + 3000, native.Block(weight), native.Style("instance", "none"))
    wanted = F.instance_norm((x + 3000).double())
    assert (
        found.double() - wanted
    ).abs().max() < 2e-3  # the input's own rounding is 1e-4; float32 sums would give 1e-1


@needs_kernels
@pytest.mark.parametrize("activation", ["relu", "elu", "gelu"])
def test_activations_over_the_whole_range(activation):
    x = torch.cat([torch.linspace(-200, 200, 4001), torch.linspace(-1, 1, 999) * 1e-3]).reshape(1, 1, 1, 1, -1)
    x = x.requires_grad_()
    found = native.layer(x, native.Block(torch.ones(1, 1, 1, 1, 1)), native.Style("none", activation))
    exact = x.detach().double().requires_grad_()
    wanted = ACTIVATIONS[activation]()(exact)
    found.sum().backward()
    wanted.sum().backward()
    assert ((found - wanted).abs() <= 1e-6 + 3e-7 * wanted.abs()).all()  # torch's own float32 GELU: 1.2e-6
    assert ((x.grad - exact.grad).abs() <= 1e-6).all()


@needs_kernels
@pytest.mark.parametrize("activation", ["relu", "elu", "gelu"])
def test_not_a_number_stays_visible(activation):
    x = tensor(1, 1, 4, 4, 20)
    x[0, 0, 2, 2, 2] = float("nan")
    found = native.layer(x, native.Block(torch.ones(1, 1, 3, 3, 3)), native.Style("none", activation))
    assert found[..., 1:4, 1:4, 1:4].isnan().all()  # all that depends on it; the rest of its units may be lost, too
    assert not found[..., 4:].isnan().any()


@needs_kernels
def test_any_memory_layout_and_a_second_backward():
    model, x = Net("instance", "elu"), tensor(1, 1, 6, 7, 8)
    found = model.native(x.to(memory_format=torch.channels_last_3d))
    assert torch.equal(found, model.native(x))
    found.sum().backward(retain_graph=True)
    first = [p.grad.clone() for p in model.parameters()]
    found.sum().backward()
    for parameter, once in zip(model.parameters(), first, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * once)


@needs_kernels
def test_frozen_parts_get_no_gradient():
    model, x = Net("instance", "elu"), tensor(1, 1, 6, 7, 8)
    model.convs[1].weight.requires_grad_(False)
    model.native(x).sum().backward()
    assert model.convs[1].weight.grad is None
    assert model.convs[0].weight.grad is not None
    assert x.grad is None


def reference_sums(scores, labels):
    surprise, classes = -scores.log_softmax(1).flatten(2), scores.shape[1]
    truth = F.one_hot(labels, classes).movedim(-1, 1).flatten(2).to(scores.dtype)
    share = (-surprise).exp()
    return torch.stack([t.sum(2) for t in (share, share * truth, truth, surprise * truth, surprise)], -1)


@needs_kernels
@pytest.mark.parametrize("instructions", INSTRUCTIONS)
@pytest.mark.parametrize("classes", [1, 2, 3, 18, 104])
def test_class_sums_agree_with_torch(instructions, classes):
    labels = torch.randint(0, classes, (2, 5, 7, 19), generator=torch.Generator().manual_seed(0))
    mine = (tensor(2, classes, 5, 7, 19) * 20).requires_grad_()
    theirs = mine.detach().double().requires_grad_()
    with using(instructions):
        found = native.class_sums(mine, labels)
        grad = tensor(*found.shape, seed=1, dtype=torch.float64)
        found.backward(grad)
    wanted = reference_sums(theirs, labels)
    wanted.backward(grad)
    torch.testing.assert_close(found.detach(), wanted.detach(), rtol=2e-6, atol=1e-5)
    assert (mine.grad - theirs.grad).abs().max() <= 1e-5 * theirs.grad.abs().max()


@needs_kernels
def test_gradcheck_of_the_class_sums():
    labels, scores = torch.tensor([[[[0, 2, 1]]]]), tensor(1, 3, 1, 1, 3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: native.class_sums(t, labels), (scores,))


@needs_kernels
def test_a_label_that_is_no_class_is_refused():
    for labels in (
        torch.full((1, 2, 2, 2), 3),
        torch.full((1, 2, 2, 2), -1),
        torch.zeros(1, 2, 2),
        torch.zeros(1, 2, 2, 2),
    ):
        with pytest.raises(ModelError):
            native.class_sums(tensor(1, 3, 2, 2, 2), labels)


def test_refusals_say_what_was_wanted():
    x, block = tensor(1, 2, 4, 4, 4), native.Block(tensor(3, 2, 3, 3, 3))
    for wrong, style in [
        ([native.Block(tensor(3, 1, 3, 3, 3))], native.Style()),
        ([native.Block(tensor(3, 2, 5, 5, 5))], native.Style()),
        ([native.Block(tensor(3, 2, 3, 3, 3, dtype=torch.float64))], native.Style()),
        ([block], native.Style("layer")),
        ([block], native.Style("batch", training=False)),
        ([native.Block(tensor(0, 2, 3, 3, 3))], native.Style()),
        ([native.Block(block.weight, torch.zeros(1))], native.Style()),
        ([native.Block(block.weight, torch.zeros(3, dtype=torch.float64))], native.Style()),
        ([native.Block(block.weight, gamma=torch.ones(2))], native.Style()),
        ([native.Block(block.weight.to("meta"))], native.Style()),
    ]:
        with pytest.raises(ModelError):
            native.stack(x, wrong, None, style)
    for odd in (x[0], x[:0], x[..., :0], x.int(), x.bfloat16(), x.to("meta")):
        with pytest.raises(ModelError, match="no side of 0"):
            native.conv3d(odd, block.weight.to(odd.dtype))
    with pytest.raises(ModelError, match="no side of 0"):
        native.class_sums(x.half(), torch.zeros(1, 4, 4, 4, dtype=torch.int64))


def test_obstacles_are_one_line():
    x = tensor(1, 1, 4, 4, 4)
    assert native.obstacle(x) == ("" if native.status().available else native.status().reason)
    with torch.autocast("cpu", torch.bfloat16):
        assert "mixed precision" in native.obstacle(x)
    for unfit in (x.half(), x[0], x.to("meta"), x[:0]):
        assert native.obstacle(unfit).count("\n") == 0 < len(native.obstacle(unfit))


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """A loader that has not looked yet, and finds no library with the package."""
    loader._load.cache_clear()
    monkeypatch.setattr(build, "library_name", lambda: "absent.so")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(loader.VARIABLE, raising=False)
    yield tmp_path
    monkeypatch.undo()
    loader._load.cache_clear()


def test_can_be_turned_off(fresh, monkeypatch):
    monkeypatch.setenv(loader.VARIABLE, "off")
    assert native.status() == native.Status(
        False, "", "native kernels off, PyTorch computes: COINSTAC_MESHNET_NATIVE=off"
    )


def test_says_when_there_is_no_compiler(fresh, monkeypatch):
    monkeypatch.setenv("PATH", str(fresh))
    monkeypatch.delenv("CXX", raising=False)
    assert "no C++ compiler" in native.status().reason


def test_says_when_the_compiler_fails(fresh, monkeypatch):
    compiler = fresh / "broken"
    compiler.write_text("#!/bin/sh\necho 'error: no space' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert native.status().reason.endswith("the C++ compiler failed: error: no space")


def test_refuses_a_cache_that_others_can_write(fresh):
    (fresh / "coinstac-meshnet").mkdir()
    (fresh / "coinstac-meshnet").chmod(0o777)
    assert "writable by, somebody else" in native.status().reason


def test_refuses_a_library_that_does_not_load(fresh):
    folder = fresh / "coinstac-meshnet"
    folder.mkdir(mode=0o700)
    (folder / "absent.so").write_bytes(b"not a library")
    assert "does not load" in native.status().reason
    assert not native.status().available


def test_a_change_of_a_source_changes_the_library(monkeypatch, tmp_path):
    before = build.library_name()
    for source in build.FOLDER.glob("*.[chi]*"):
        (tmp_path / source.name).write_bytes(source.read_bytes())
    monkeypatch.setattr(build, "FOLDER", tmp_path)
    assert build.library_name() == before
    with (tmp_path / "kernels.h").open("a") as file:
        file.write("// changed" + os.linesep)
    assert build.library_name() != before
