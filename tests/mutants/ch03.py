"""Wrong answers to the exercises of chapter 03."""

import torch

from minilm.cache import FullAttention
from minilm.model import rotate
from mutants import Mutant

# --- 03.1: entropy ---


def bits(logits):
    p = logits.softmax(-1)
    return -(p * torch.log2(p)).sum(-1)


def wrong_sign(logits):
    p = logits.softmax(-1)
    return (p * p.log()).sum(-1)


def over_rows(logits):
    p = logits.softmax(0)
    return -(p * p.log()).sum(0)


def softmax_over_rows(logits):
    p = logits.softmax(dim=0)
    return -(p * p.log()).sum(-1)


def over_everything(logits):
    p = logits.softmax(-1)
    return -(p * p.log()).sum()


def mean_not_sum(logits):
    p = logits.softmax(-1)
    return -(p * p.log()).mean(-1)


def logits_for_logs(logits):
    return -(logits.softmax(-1) * logits).sum(-1)


def no_p(logits):
    return -logits.softmax(-1).log().sum(-1)


def by_exp(logits):
    p = logits.exp() / logits.exp().sum(-1, keepdim=True)
    return torch.special.entr(p).sum(-1)


def zero_log_zero(logits):
    p = logits.softmax(-1)
    return -(p * p.log()).sum(-1)


def cut_log_softmax(logits):
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


def perplexity(logits):
    return torch.special.entr(logits.softmax(-1)).sum(-1).exp()


def squeezed(logits):
    return torch.special.entr(logits.softmax(-1)).sum(-1).squeeze()


def entr_of_logits(logits):
    return torch.special.entr(logits).sum(-1)


def x_log_x(logits):
    return -(logits * logits.log()).sum(-1)


def xlogy_of_logits(logits):
    return -torch.xlogy(logits, logits).sum(-1)


# --- 03.2: patience ---


def run_length(named, patience):
    run, last = 0, None
    for exit, token in enumerate(named, 1):
        run = run + 1 if token == last else 1
        if run >= patience:
            return exit
        last = token


def one_late(named, patience):
    count = 0
    for i in range(1, len(named)):
        count = count + 1 if named[i] == named[i - 1] else 0
        if count > patience:
            return i + 1


def one_early(named, patience):
    count = 0
    for i in range(1, len(named)):
        count = count + 1 if named[i] == named[i - 1] else 0
        if count >= patience:
            return i


def no_reset(named, patience):
    count = 0
    for i in range(1, len(named)):
        if named[i] == named[i - 1]:
            count += 1
        if count >= patience:
            return i + 1


def starts_again_at_one(named, patience):
    count = 0
    for i in range(1, len(named)):
        count = count + 1 if named[i] == named[i - 1] else 1
        if count >= patience:
            return i + 1


def like_the_first(named, patience):
    count = 0
    for i in range(1, len(named)):
        count = count + 1 if named[i] == named[0] else 0
        if count >= patience:
            return i + 1


def last_if_never(named, patience):
    return right_exit(named, patience) or len(named)


def right_exit(named, patience):
    count = 0
    for i in range(1, len(named)):
        count = count + 1 if named[i] == named[i - 1] else 0
        if count >= patience:
            return i + 1


def misses_the_last(named, patience):
    return right_exit(named[:-1], patience)


def the_token(named, patience):
    exit = right_exit(named, patience)
    return None if exit is None else named[exit - 1]


def last_is_zero(named, patience):
    count, last = 0, 0
    for exit, token in enumerate(named, 1):
        count = count + 1 if token == last else 0
        if count >= patience:
            return exit
        last = token


def if_last(named, patience):
    count, last = 0, None
    for exit, token in enumerate(named, 1):
        count = count + 1 if last and token == last else 0
        if count >= patience:
            return exit
        last = token


def length_from_the_second(named, patience):
    run = 1
    for i in range(1, len(named)):
        run = run + 1 if named[i] == named[i - 1] else 1
        if run >= patience:
            return i + 1


def length_equal(named, patience):
    run = 1
    for i in range(1, len(named)):
        run = run + 1 if named[i] == named[i - 1] else 1
        if run == patience:
            return i + 1


def last_match(named, patience):
    count, found = 0, None
    for i in range(1, len(named)):
        count = count + 1 if named[i] == named[i - 1] else 0
        if count >= patience:
            found = i + 1
    return found


def by_identity(named, patience):
    count, last = 0, None
    for exit, token in enumerate(named, 1):
        count = count + 1 if token is last else 0
        if count >= patience:
            return exit
        last = token


def exit_as_tensor(named, patience):
    exit = right_exit(named, patience)
    return None if exit is None else torch.tensor(exit)


def exit_as_float(named, patience):
    exit = right_exit(named, patience)
    return None if exit is None else float(exit)


# --- 03.3: the exit loop ---


def zero_based(x, layers, exits, leaves):
    for i, layer in enumerate(layers):
        x = layer(x)
        if i + 1 in exits and i + 1 < len(layers) and leaves(i + 1, x):
            return x, i
    return x, len(layers) - 1


def forgets_the_exits(x, layers, exits, leaves):
    for n, layer in enumerate(layers, 1):
        x = layer(x)
        if n < len(layers) and leaves(n, x):
            return x, n
    return x, len(layers)


def asks_before(x, layers, exits, leaves):
    for n, layer in enumerate(layers, 1):
        if n in exits and n < len(layers) and leaves(n, x):
            return x, n
        x = layer(x)
    return x, len(layers)


def index_for_exit(x, layers, exits, leaves):
    for i, layer in enumerate(layers):
        x = layer(x)
        if i in exits and leaves(i, x):
            return x, i + 1
    return x, len(layers)


def asks_after_the_last(x, layers, exits, leaves):
    for n, layer in enumerate(layers, 1):
        x = layer(x)
        if n in exits and leaves(n, x):
            return x, n
    return x, len(layers)


def never_breaks(x, layers, exits, leaves):
    ran = len(layers)
    for n, layer in enumerate(layers, 1):
        x = layer(x)
        if n in exits and n < len(layers) and leaves(n, x):
            ran = n
    return x, ran


def reversed_answer(x, layers, exits, leaves):
    for n, layer in enumerate(layers, 1):
        x = layer(x)
        if n in exits and n < len(layers) and not leaves(n, x):
            return x, n
    return x, len(layers)


def picks_later(x, layers, exits, leaves):
    states = []
    for layer in layers:
        states.append(layer(states[-1] if states else x))
    for n in range(1, len(layers)):
        if n in exits and leaves(n, states[n - 1]):
            return states[n - 1], n
    return states[-1], len(layers)


def one_layer_more(x, layers, exits, leaves):
    for n, layer in enumerate(layers, 1):
        x = layer(x)
        if n in exits and n < len(layers) and leaves(n, x):
            return layers[n](x), n + 1
    return x, len(layers)


def first_x_each_time(x, layers, exits, leaves):
    y = x
    for n, layer in enumerate(layers, 1):
        y = layer(x)
        if n in exits and n < len(layers) and leaves(n, y):
            return y, n
    return y, len(layers)


# --- 03.4: catch up ---


def _keys_values(model, block, x, cos, sin):
    c = model.config
    heads = (block.attention.qkv.weight @ x).view(-1, c.head_size)
    k, v = heads[c.num_heads : c.num_heads + c.num_kv_heads], heads[c.num_heads + c.num_kv_heads :]
    return rotate(k[None, :, None], cos, sin)[0, :, 0], v


def _rope(model, position, x):
    return model.rotary(torch.tensor([position]), x.dtype)


def no_norm(model, state, exit, position):
    return [_keys_values(model, block, state, *_rope(model, position, state)) for block in model.layers[exit:]]


def final_norm(model, state, exit, position):
    x = model.norm(state)
    return [_keys_values(model, block, x, *_rope(model, position, x)) for block in model.layers[exit:]]


def no_rotary(model, state, exit, position):
    return right_catch_up(model, state, exit, 0)


def right_catch_up(model, state, exit, position):
    rope = _rope(model, position, state)
    return [_keys_values(model, block, block.attention_norm(state), *rope) for block in model.layers[exit:]]


def one_position_on(model, state, exit, position):
    return right_catch_up(model, state, exit, position + 1)


def exit_layers_weights(model, state, exit, position):
    rope, block = _rope(model, position, state), model.layers[exit - 1]
    return [_keys_values(model, block, block.attention_norm(state), *rope) for _ in model.layers[exit:]]


def queries_rows(model, state, exit, position):
    out, c = [], model.config
    for block in model.layers[exit:]:
        heads = block.attention.qkv(block.attention_norm(state)).view(-1, c.head_size)
        k, v = heads[: c.num_kv_heads], heads[c.num_kv_heads : 2 * c.num_kv_heads]
        out.append((rotate(k[None, :, None], *_rope(model, position, state))[0, :, 0], v))
    return out


def values_turned(model, state, exit, position):
    rope = _rope(model, position, state)
    return [(k, rotate(v[None, :, None], *rope)[0, :, 0]) for k, v in right_catch_up(model, state, exit, position)]


def with_the_exit_layer(model, state, exit, position):
    return right_catch_up(model, state, exit - 1, position)


def one_layer_short(model, state, exit, position):
    return right_catch_up(model, state, exit + 1, position)


def runs_the_layers(model, state, exit, position):
    out = []
    for block in model.layers[exit:]:
        out.append(_keys_values(model, block, block.attention_norm(state), *_rope(model, position, state)))
        state = state + block.mlp(block.mlp_norm(state))
    return out


def runs_whole_layers(model, state, exit, position):
    out, rope = [], _rope(model, position, state)
    for index, block in enumerate(model.layers[exit:], exit):
        out.append(_keys_values(model, block, block.attention_norm(state), *rope))
        state = block(state[None, None], rope, FullAttention(8), index)[0, 0]
    return out


def norms_the_normed(model, state, exit, position):
    out, rope = [], _rope(model, position, state)
    for block in model.layers[exit:]:
        state = block.attention_norm(state)
        out.append(_keys_values(model, block, state, *rope))
    return out


def values_first(model, state, exit, position):
    return [(v, k) for k, v in right_catch_up(model, state, exit, position)]


def values_for_keys(model, state, exit, position):
    out, c = [], model.config
    for block in model.layers[exit:]:
        heads = block.attention.qkv(block.attention_norm(state)).view(-1, c.head_size)
        v, k = heads[c.num_heads : c.num_heads + c.num_kv_heads], heads[c.num_heads + c.num_kv_heads :]
        out.append((rotate(k[None, :, None], *_rope(model, position, state))[0, :, 0], v))
    return out


def padded(model, state, exit, position):
    return [None] * exit + right_catch_up(model, state, exit, position)


def every_layer(model, state, exit, position):
    return right_catch_up(model, state, 0, position)


def in_float32(model, state, exit, position):
    return [(k.float(), v.float()) for k, v in right_catch_up(model, state, exit, position)]


def through_float32(model, state, exit, position):
    return [(k.float().to(k.dtype), v.float().to(v.dtype)) for k, v in right_catch_up(model, state, exit, position)]


# --- 03.5: the whole cost ---


def layers_alone(depths, exits, num_layers, product):
    return sum(depths) / len(depths)


def one_product(depths, exits, num_layers, product):
    return sum(depths) / len(depths) + product


def no_last_product(depths, exits, num_layers, product):
    return sum(d + product * len([e for e in exits if e <= d]) for d in depths) / len(depths)


def paid_twice(depths, exits, num_layers, product):
    return no_last_product(depths, exits, num_layers, product) + product


def all_exits_for_all(depths, exits, num_layers, product):
    return sum(depths) / len(depths) + product * (len(exits) + 1)


def look_after_every_layer(depths, exits, num_layers, product):
    return sum(d + product * d for d in depths) / len(depths)


def summed(depths, exits, num_layers, product):
    return sum(d + product * (1 + sum(e < d for e in exits)) for d in depths)


def no_leaving_look(depths, exits, num_layers, product):
    return sum(n + product * (sum(e < n for e in exits) + (n == num_layers)) for n in depths) / len(depths)


def exits_never_reached(depths, exits, num_layers, product):
    return sum(n + product * (len(exits) + (n == num_layers)) for n in depths) / len(depths)


def always_16(depths, exits, num_layers, product):
    return sum(n + product * (sum(e <= n for e in exits) + (n == 16)) for n in depths) / len(depths)


def cost_as_tensor(depths, exits, num_layers, product):
    return torch.tensor(summed(depths, exits, num_layers, product) / len(depths))


MUTANTS = {
    "03.1": [
        Mutant("bits", bits, "log2, which gives bits"),
        Mutant("sign", wrong_sign, "the sign is probably wrong"),
        Mutant("over rows", over_rows, "softmax and sum are probably over the wrong axis"),
        Mutant("softmax over rows", softmax_over_rows, "softmax is probably over the wrong axis"),
        Mutant("over everything", over_everything, "summing over everything"),
        Mutant("mean", mean_not_sum, "the entropy is a sum"),
        Mutant("logits for logarithms", logits_for_logs, "multiplying p by the logits"),
        Mutant("no p", no_p, "the p before the logarithm is missing"),
        Mutant("exp overflows", by_exp, "exp(200) is inf, and inf / inf NaN"),
        Mutant("0 ln 0", zero_log_zero, "0 · ln 0, which is NaN"),
        Mutant("cut tokens", cut_log_softmax, "a cut token has a logit of -inf"),
        Mutant("perplexity", perplexity, "that is the perplexity"),
        Mutant("squeeze", squeezed, "squeeze drops every axis of size 1"),
        Mutant("entr of logits", entr_of_logits, "softmax is missing"),
        Mutant("x log x", x_log_x, "softmax is missing"),
        Mutant("xlogy of logits", xlogy_of_logits, "softmax is missing"),
    ],
    "03.2": [
        Mutant("counts the first exit", run_length, "counting the first exit of a run as an agreement"),
        Mutant("one exit late", one_late, "you are one exit late"),
        Mutant("one exit early", one_early, "exits are counted from 1"),
        Mutant("no reset", no_reset, "a change must set the count back to 0"),
        Mutant("starts again at one", starts_again_at_one, "after a change the count is 0, not 1"),
        Mutant("compares with the first", like_the_first, "not with the first one"),
        Mutant("the last exit if never", last_if_never, "does not leave at the last exit: return None"),
        Mutant("misses the last exit", misses_the_last, "the last exit counts, too"),
        Mutant("the token", the_token, "not the token it names"),
        Mutant("last starts as 0", last_is_zero, "starts as None, not 0"),
        Mutant("if last", if_last, "`if last` is false for token 0"),
        Mutant("run length from the second", length_from_the_second, "a run of two tokens is one agreement"),
        Mutant("run length, equal", length_equal, "a run of two tokens is one agreement"),
        Mutant("last match", last_match, "the token leaves at the first"),
        Mutant("is for ==", by_identity, "not with `is`"),
        Mutant("tensor for an int", exit_as_tensor, "a plain int"),
        Mutant("float for an int", exit_as_float, "a plain int"),
    ],
    "03.3": [
        Mutant("counts from 0", zero_based, "return how many layers ran, counted from 1"),
        Mutant("forgets the exits", forgets_the_exits, "ask at the exits only"),
        Mutant("asks before the layer", asks_before, "you ask before the layer runs"),
        Mutant("takes exits for indices", index_for_exit, "yours comes one layer later"),
        Mutant("asks after the last", asks_after_the_last, "you ask after the last layer"),
        Mutant("never breaks", never_breaks, "return there and then"),
        Mutant("stays when told to leave", reversed_answer, "true means leave"),
        Mutant("runs all and picks", picks_later, "after leaving no layer may run"),
        Mutant("one layer more", one_layer_more, "one more layer after the policy said leave"),
        Mutant("the first x each time", first_x_each_time, "you feed every layer the first x"),
    ],
    "03.4": [
        Mutant("no norm", no_norm, "the norm is missing"),
        Mutant("final norm", final_norm, "the model's last norm"),
        Mutant("no rotary", no_rotary, "turned as at position 0"),
        Mutant("one position on", one_position_on, "you are one position off"),
        Mutant("exit layer's weights", exit_layers_weights, "you use the exit layer's weights for all"),
        Mutant("queries' rows", queries_rows, "those are the queries' rows"),
        Mutant("values turned", values_turned, "only keys are turned"),
        Mutant("with the exit layer", with_the_exit_layer, "the exit layer itself has run"),
        Mutant("one layer short", one_layer_short, "the first skipped layer is missing"),
        Mutant("runs the layers", runs_the_layers, "you run the skipped layers' MLPs on it"),
        Mutant("runs the whole layers", runs_whole_layers, "you run the skipped layers on it"),
        Mutant("norms the normed", norms_the_normed, "you norm what the layer before has normed"),
        Mutant("v and k", values_first, "each pair is (k, v)"),
        Mutant("values for keys", values_for_keys, "keys and values are swapped"),
        Mutant("padded with None", padded, "all layers are too many"),
        Mutant("every layer", every_layer, "all layers are too many"),
        Mutant("cast to float32", in_float32, "cast to float32"),
        Mutant("computed in float32", through_float32, "compute in the dtype of the state"),
    ],
    "03.5": [
        Mutant("layers alone", layers_alone, "that is layers alone"),
        Mutant("one product", one_product, "every look on the way up costs one"),
        Mutant("no last product", no_last_product, "needs one product more, after the last"),
        Mutant("pays twice for its name", paid_twice, "named by its last look"),
        Mutant("all exits for all", all_exits_for_all, "one that has left does not look again"),
        Mutant("a look after every layer", look_after_every_layer, "only the exits look"),
        Mutant("the sum", summed, "divide by the number of tokens"),
        Mutant("leaving look missing", no_leaving_look, "the leaving exit's own look is missing"),
        Mutant("exits never reached", exits_never_reached, "you charge exits never reached"),
        Mutant("16 layers", always_16, "a 16 is probably hard-coded"),
        Mutant("tensor for a float", cost_as_tensor, "the mean cost is a float"),
    ],
}
