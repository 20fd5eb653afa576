"""What people really paste in wrongly, and a part of the line that each gets.

`data` gives a file of records, `flag` flags beside a command line that works, `conf` a YAML file, `cmd` a command.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

TRAIN = "TRAIN"  # stands for a command line that works


@dataclass(frozen=True)
class Case:
    """One thing given wrongly.

    Attributes:
        name: what is wrong.
        said: a part of the line; empty where it is no mistake after all.
        argv: the command line; {tmp}, {pool}, {model}, {run} stand for places.
        files: name in {tmp} -> content.
        code: exit code.
    """

    name: str
    said: str
    argv: Sequence[str]
    files: dict[str, bytes] = field(default_factory=dict)
    code: int = 2


CASES: list[Case] = []


def rows(count: int) -> bytes:
    """A csv with that many records."""
    return b"text,label\n" + b"".join(b"a film number %d,%d\n" % (number, number % 2) for number in range(count))


ROWS = rows(40)


def data(name: str, said: str, content: bytes, *more: str, file: str = "pool.csv", code: int = 2) -> None:
    CASES.append(Case(name, said, [TRAIN, "--data.train", "{tmp}/" + file, *more], {file: content}, code))


def flag(name: str, said: str, *more: str, code: int = 2) -> None:
    CASES.append(Case(name, said, [TRAIN, *more], {}, code))


def conf(name: str, said: str, content: bytes, *more: str, code: int = 2) -> None:
    CASES.append(Case(name, said, ["train", "--config", "{tmp}/c.yaml", *more], {"c.yaml": content}, code))


def cmd(name: str, said: str, *argv: str, code: int = 2, **files: bytes) -> None:
    CASES.append(Case(name, said, argv, {key.replace("__", "."): value for key, value in files.items()}, code))


data("empty csv", "the file is empty; expected a header and at least one record", b"")
data("header only", "there is no record in it; expected a header and at least one", b"text,label\n")
data("one record", "it has 1 units (each record is one); training needs 32 or more,", rows(1))
data("too few units", "it has 31 units (each record is one); training needs 32 or", rows(31))
data("utf-16", "the text is in UTF-16; expected UTF-8; save it again as UTF-8", ROWS.decode().encode("utf-16"))
data("latin-1", "line 2 is not UTF-8 (byte 0xe9); save it as UTF-8 (where it is", ROWS.replace(b"film", b"caf\xe9"))
data("semicolons", "it has one column, 'text;label', and looks separated by a", ROWS.replace(b",", b";"))
data(
    "other column names",
    "task.template: {text} is no column of the data; its columns are",
    ROWS.replace(b"text,label", b"review,class"),
)
data(
    "label column misspelt",
    "has no column 'label'; its columns are 'text', 'lable",
    ROWS.replace(b"text,label", b"text,lable"),
)
data(
    "duplicated columns",
    "column 'text' is in the header more than once; rename one of",
    ROWS.replace(b"text,label", b"text,text"),
)
data(
    "an empty text",
    "record 4 has no text in 'text'; fill it in or drop the record",
    ROWS.replace(b"a film number 3,", b","),
)
data(
    "an empty label",
    "has no label in column 'label'; configured are '0', '1'; the",
    ROWS.replace(b"number 4,0", b"number 4,"),
)
data(
    "an unknown label",
    "has the label 'maybe' in column 'label'; configured are '0',",
    ROWS.replace(b"number 4,0", b"number 4,maybe"),
)
data(
    "labels as words",
    "has the label 'no' in column 'label'; configured are '0', '1';",
    ROWS.replace(b",0\n", b",no\n").replace(b",1\n", b",yes\n"),
)
data("all one label", "", ROWS.replace(b",0\n", b",1\n"), code=0)
data(
    "too many cells",
    "the record that ends in line 6 has 3 fields, the header 2; put",
    ROWS.replace(b"number 4,0", b"number 4,0,7"),
)
data(
    "too few cells",
    "the record that ends in line 6 has 1 fields, the header 2; put",
    ROWS.replace(b"number 4,0", b"number 4"),
)
data(
    "a quote never closed",
    "line 41 is broken (unexpected end of data); write a quote",
    ROWS.replace(b"a film number 4", b'"a film number 4'),
)
data("NUL bytes", "line 6 has a zero byte; no text", ROWS.replace(b"number 4", b"number \x004"))
data(
    "jsonl named csv",
    "task.template: {text} is no column of the data; its columns are",
    b'{"text": "x", "label": 1}\n' * 40,
)
data("csv named jsonl", "line 1 is no JSON (Expecting value, column 1); expected one", ROWS, file="pool.jsonl")
data(
    "jsonl with a broken line",
    "line 40 is no JSON (Expecting ',' delimiter, column 13);",
    b'{"text": "x", "label": 1}\n' * 39 + b'{"text": "x"',
    file="pool.jsonl",
)
data("jsonl of lists", "line 1 holds a list; expected one object a line", b'["x", 1]\n' * 40, file="pool.jsonl")
data("csv named parquet", "is no whole parquet file (Parquet magic bytes not found in", ROWS, file="pool.parquet")
data(
    "a zip named csv",
    "this is an Excel or zip file under another name; rename it or",
    b"PK\x03\x04" + bytes(range(256)) * 20,
)
data("an unknown ending", "the name ends in '.xlsx'; expected .csv, .tsv, .jsonl, .json or", ROWS, file="pool.xlsx")
data("no ending", "the name ends in ''; expected .csv, .tsv, .jsonl, .json or", ROWS, file="pool")
flag("no such file", "there is no such file; check the path", "--data.train", "{tmp}/nowhere.csv")
flag("a directory as data", "this is a directory; expected a file (.csv, .tsv, .jsonl, .json", "--data.train", "{tmp}")
flag("no dev file", "there is no such file; check the path; `--data.dev null` goes", "--data.dev", "{tmp}/nowhere.csv")
flag(
    "a unit column that is not there",
    "has no column 'customer'; its columns are 'text', 'label",
    "--task.unit_column",
    "customer",
)
flag(
    "a template without label",
    "task.template: '{text} was fine' was given; expected a text",
    "--task.template",
    "{text} was fine",
)
flag(
    "a template whose label is not last",
    "task.template: '{label} {text}' was given; expected a text that",
    "--task.template",
    "{label} {text}",
)
flag(
    "a template with a column that is not there",
    "task.template: {review} is no column of the data; its columns",
    "--task.template",
    "{review} It was {label}",
)
flag(
    "a template with a brace",
    "task.template: '{text It was {label}' was given (unexpected '{'",
    "--task.template",
    "{text It was {label}",
)
flag("one label", "task.labels: {'0': 'terrible'} was given; expected two or more", "--task.labels", "{0: terrible}")
flag(
    "two labels of one word",
    "task.labels: {'0': 'good', '1': 'good'} was given; expected a",
    "--task.labels",
    "{0: good, 1: good}",
)
flag(
    "labels as a list", "task.labels: ['terrible', 'great'] was given; expected a", "--task.labels", "[terrible, great]"
)
flag(
    "labels that are not YAML",
    "--task.labels: '{0: terrible' was given: not YAML in line 1:",
    "--task.labels",
    "{0: terrible",
)
flag("an odd M", "mechanism.subsets: 7 was given; expected an even number of", "--mechanism.subsets", "7")
flag("M of 0", "mechanism.subsets: 0 was given; expected an even number of", "--mechanism.subsets", "0")
flag("a huge M", "mechanism.subsets: 1000000000 was given; expected an even", "--mechanism.subsets", "1000000000")
flag(
    "an unknown mechanism", "mechanism.name: 'zlp' was given; expected one of zpl, mi, none,", "--mechanism.name", "zlp"
)
flag(
    "an unknown family",
    "mechanism.family: 'balance' was given; expected one of random,",
    "--mechanism.family",
    "balance",
)
flag("mi without a budget", "mechanism.budget: None was given; expected a number of nats,", "--mechanism.name", "mi")
flag(
    "a negative budget",
    "mechanism.budget: -0.1 was given; expected nats, a finite",
    "--mechanism.name",
    "mi",
    "--mechanism.budget",
    "-0.1",
)
flag(
    "a budget that is NaN",
    "mechanism.budget: nan was given; expected nats, a finite number",
    "--mechanism.name",
    "mi",
    "--mechanism.budget",
    ".nan",
)
flag(
    "an infinite budget",
    "mechanism.budget: inf was given; expected nats, a finite number",
    "--mechanism.name",
    "mi",
    "--mechanism.budget",
    ".inf",
)
flag(
    "a decimal comma",
    "mechanism.budget: '0,33' was given; expected a number or null",
    "--mechanism.name",
    "mi",
    "--mechanism.budget",
    "0,33",
)
flag(
    "a budget that promises nothing",
    "mechanism.budget: 0.7 nats was given; ln 2 = 0.693 or more",
    "--mechanism.name",
    "mi",
    "--mechanism.budget",
    "0.7",
)
flag("a budget with zpl", "mechanism.budget: 0.3 was given with mechanism.name 'zpl',", "--mechanism.budget", "0.3")
flag("epsilon with zpl", "mechanism.epsilon: 2.0 was given with mechanism.name 'zpl',", "--mechanism.epsilon", "2")
flag(
    "dp-sign without epsilon",
    "mechanism.epsilon: None was given; expected a finite number",
    "--mechanism.name",
    "dp-sign",
)
flag(
    "epsilon of 0",
    "mechanism.epsilon: 0.0 was given; expected a finite number",
    "--mechanism.name",
    "dp-sign",
    "--mechanism.epsilon",
    "0",
)
flag(
    "delta of 1",
    "mechanism.delta: 1.0 was given; expected a probability above 0",
    "--mechanism.name",
    "dp-sign",
    "--mechanism.epsilon",
    "1",
    "--mechanism.delta",
    "1",
)
flag(
    "sampling and two directions with dp-sign",
    "directions: 2 was given; expected 1 with dp-sign and mechanism.sampling_prob",
    "--mechanism.name",
    "dp-sign",
    "--mechanism.epsilon",
    "1",
    "--mechanism.sampling_prob",
    "0.5",
    "--directions",
    "2",
)
flag(
    "a sampling rate of 0",
    "mechanism.sampling_prob: 0.001 of 40 units is less than one unit a",
    "--mechanism.name",
    "dpzero",
    "--mechanism.epsilon",
    "1",
    "--mechanism.sampling_prob",
    "0.001",
)
flag(
    "several directions with dpzero",
    "directions: 4 was given; expected 1 with dpzero; `dp-aggzo`",
    "--mechanism.name",
    "dpzero",
    "--mechanism.epsilon",
    "1",
    "--directions",
    "4",
)
flag(
    "a clip in words", "mechanism.clip: 'much' was given; expected a number or one of auto", "--mechanism.clip", "much"
)
flag("a clip of 0", "mechanism.clip: 0.0 was given; expected a finite number above 0", "--mechanism.clip", "0")
flag("a learning rate in words", "learning_rate: 'fast' was given; expected a number", "--learning_rate", "fast")
flag("a learning rate of 0", "learning_rate: 0.0 was given; expected a finite number above 0", "--learning_rate", "0")
flag("no steps", "max_steps: 0 was given; expected 1 or more", "--max_steps", "0")
flag("half a step", "max_steps: '2.5' was given; expected a whole number", "--max_steps", "2.5")
flag("negative steps", "max_steps: -5 was given; expected 1 or more", "--max_steps", "-5")
flag("a negative mu", "mu: -0.001 was given; expected a finite number above 0", "--mu", "-1e-3")
flag("an average of 1", "ema_decay: 1.0 was given; expected a number in [0, 1)", "--ema_decay", "1")
flag("a negative seed", "seed: -1 was given; expected an integer from 0 to 2^63 - 1", "--seed", "-1")
flag(
    "an unknown schedule",
    "lr_scheduler_type: 'cosine' was given; expected one of linear, constant",
    "--lr_scheduler_type",
    "cosine",
)
flag("an unknown dtype", "dtype: 'fp16' was given; expected one of float32, bfloat16,", "--dtype", "fp16")
flag(
    "more units a step than there are",
    "units_per_step: 1000 was given; expected at most 40",
    "--units_per_step",
    "1000",
)
flag("batches without tokens", "batch_tokens: 0 was given; expected 1 or more", "--batch_tokens", "0")
flag("a misspelt flag", "--learningrate is no option here; did you mean --learning_rate?", "--learningrate", "0.1")
flag("a flag without its group", "--budget is no option here; did you mean --mechanism.budget?", "--budget", "0.3")
flag("a flag without a value", "--max_steps: no value was given; expected a whole number", "--max_steps")
flag("a stray word", "please' was given where nothing more is expected; quote a text", "please")
flag("no model there", "cannot be loaded; expected a hub id or a directory that", "--model", "{tmp}/nowhere")
flag("an empty model directory", "cannot be loaded; expected a hub id or a directory that", "--model", "{tmp}/empty")
flag("a csv as model", "cannot be loaded; expected a hub id or a directory that", "--model", "{pool}")
flag(
    "modules that match nothing",
    "peft: Target modules {'queries'} not found in the base model.",
    "--peft.target_modules",
    "[queries]",
)
flag(
    "layers out of range",
    "peft.layers_to_transform: 99 was given; expected an index from",
    "--peft.layers_to_transform",
    "[99]",
)
flag("a rank of 0", "peft: `r` should be a positive integer value but the value", "--peft.r", "0")
flag("dropout", "peft.lora_dropout: 0.1 was given; expected 0, since forward", "--peft.lora_dropout", "0.1")
flag("an unknown key of peft", "peft: rank is no key of peft's LoraConfig; expected its", "--peft.rank", "8")
flag(
    "peft that is no LoRA", "peft.peft_type: 'IA3' was given; expected LORA, or no peft for", "--peft.peft_type", "IA3"
)
flag("peft and train_layers", "train_layers: given together with peft; expected one of them.", "--train_layers", "[-1]")
flag("an unknown device", "device: 'gpu' was given; expected auto", "--device", "gpu")
flag("an output directory that is a file", "is a file; expected a new directory", "--output_dir", "{pool}")
flag("lr of other libraries", "lr: it was given, and is no setting of PACZero: set learning_rate", "--lr", "1e-3")
flag("an adapter's rank of other libraries", "keys of the adapter stand under peft, such as peft.r", "--lora.rank", "8")
flag("a mechanism without its key", "did you mean mechanism.name?", "--mechanism", "mi")
flag(
    "an output directory that holds something",
    "exists and is not an empty directory; name another, or go on",
    "--output_dir",
    "{tmp}",
)
flag("an output directory below a file", "takes no new directory", "--output_dir", "{pool}/run")
flag("a secret that is none", "lies in no run; expected private/secret.json of a finished run", "--secret", "{pool}")
flag(
    "a secret that is not there",
    "is no file; expected private/secret.json of a finished run",
    "--secret",
    "{tmp}/nowhere.json",
)
flag(
    "metric_for_best_model without a dev set",
    "none was given, but metric_for_best_model is",
    "--metric_for_best_model",
    "loss",
    "--data.dev",
    "null",
)
flag("an unknown tracker", "report_to: ['tensorbord'] was given; expected any of", "--report_to", "[tensorbord]")
conf("an empty config", "model: none was given; expected a model directory or hub id;", b"")
conf("a config that is a list", "a list was given; expected settings, one `key: value` a line", b"- max_steps: 3\n")
conf(
    "a config with tabs", "not YAML in line 2: found character '\\t' that cannot start any", b"max_steps: 3\n\tmu: 1\n"
)
conf("a key given twice", "line 2: 'max_steps' is given twice", b"max_steps: 3\nmax_steps: 4\n")
conf("a wrong nesting", "max_steps: {'value': '3'} was given; expected a whole number", b"max_steps: {value: 3}\n")
conf("an unknown key", "learning_rates is no setting; did you mean learning_rate?", b"learning_rates: 0.1\n")
conf("a mechanism that is a word", "mechanism: 'zpl' was given; expected a mapping such as '{key:", b"mechanism: zpl\n")
conf(
    "python in YAML",
    "max_steps: ['ls'] was given; expected a whole number",
    b"max_steps: !!python/object/apply:os.system [ls]\n",
)
conf("a config that contains itself", "not YAML in line 1: found unconstructable recursive node", b"peft: &a {r: *a}\n")
conf(
    "a config with control characters",
    "not YAML: unacceptable character #x0000: special characters are",
    b"max_steps: \x003\n",
)
conf("a picture as config", "is not UTF-8 at byte 0; expected YAML", b"\x89PNG\r\n\x1a\n\x00\x00")
conf(
    "a base that is not there",
    "nowhere.yaml' cannot be read (No such file or",
    b"base: nowhere.yaml\nmax_steps: 3\n",
)
conf(
    "a base that is itself",
    "c.yaml: base: the file is its own base; expected one that does",
    b"base: c.yaml\nmax_steps: 3\n",
)
cmd("an empty argument", "'' was given where nothing more is expected", "match", "--success", "0.6", "")
cmd(
    "a sweep into several places",
    "output_dir: ['a', 'b'] was given; expected a text",
    *("sweep", "{tmp}/s.yaml"),
    s__yaml=b"output_dir: [a, b]\ncells: {a: {max_steps: 3}}\n",
)
cmd(
    "no such config",
    "cannot be read (No such file or directory); expected a YAML",
    "train",
    "--config",
    "{tmp}/nowhere.yaml",
)
cmd("a directory as config", "cannot be read (Is a directory); expected a YAML file or a", "train", "--config", "{tmp}")
cmd(
    "resume of nothing",
    "holds no run; expected a directory that `paczero train` made",
    "train",
    "--resume",
    "{tmp}/empty",
)
cmd(
    "resume with other settings",
    ", of which only cache_bytes, cache_dir, data.dev, data.test,",
    "train",
    "--resume",
    "{run}",
    "--max_steps",
    "9",
)
cmd("an unknown command", "trian' is no command; did you mean train?", "trian")
cmd(
    "eval of nothing",
    ", and nothing of the name can be had from the hub (it is no hub",
    "eval",
    "{tmp}/nowhere",
    "--data",
    "{pool}",
)
cmd(
    "eval without data",
    "--data: nothing was given and no test set is known; expected",
    "eval",
    "{run}/release",
    "--model",
    "{model}",
)
cmd("eval of a csv", "is a file; expected a directory: a run, a release, a PEFT", "eval", "{pool}", "--data", "{pool}")
cmd(
    "predict without output",
    "--output: nothing was given; expected a file, or - for standard",
    "predict",
    "{run}",
    "--input",
    "{pool}",
)
cmd(
    "predict into nowhere",
    "lies in no directory that exists; make it first",
    "predict",
    "{run}",
    "--input",
    "{pool}",
    "--output",
    "{tmp}/no/where/out.csv",
)
cmd(
    "predict with columns missing",
    "task.template: {text} is no column of the data; its columns are",
    "predict",
    "{run}",
    "--input",
    "{tmp}/new.csv",
    "--output",
    "{tmp}/out.csv",
    new__csv=b"review\nfine\n",
)
cmd("replay without a request", "--output: nothing was given; expected where the weights go, or", "replay", "{run}")
cmd(
    "replay of too many steps",
    "step: 99 was given; expected 0 to 4, the steps that ran",
    "replay",
    "{run}",
    "--step",
    "99",
    "--output",
    "{tmp}/w",
)
cmd("verify of a model", "holds no release; expected privacy.json and transcript.jsonl in", "verify", "{model}")
cmd(
    "verify with another base",
    "cannot be loaded; expected a hub id or a directory that",
    "verify",
    "{run}",
    "--model",
    "{pool}",
)
cmd(
    "verify with a key that is none",
    "holds no public key; expected an Ed25519 key as `ssh-keygen -t",
    "verify",
    "{run}",
    "--key",
    "{pool}",
)
cmd("sign without a key", "--key: nothing was given; expected your private key, such as", "sign", "{run}")
cmd("audit of a release", "holds no run; expected a directory that `paczero train` made", "audit", "{run}/release")
cmd(
    "audit of parts there are not",
    "--parts: 'everything' was given; expected some of exact,",
    "audit",
    "{run}",
    "--parts",
    "everything",
)
cmd("report of nothing", "holds no run: neither private/ nor release/ is there", "report", "{tmp}/empty")
cmd("results of nothing", "holds no run; expected CELL/seed-SEED as `paczero sweep` makes", "results", "{tmp}/empty")
cmd(
    "results from what is none",
    "cannot be read (Expecting value: line 1 column 1 (char 0));",
    "results",
    "--from",
    "{pool}",
)
cmd(
    "convert of a csv",
    "does not begin as a GGUF file does; expected a complete .gguf",
    "convert",
    "{pool}",
    "{tmp}/model",
)
cmd("match without a target", "none of --success, --nats, --epsilon was given; expected one of them", "match")
cmd(
    *("match with two targets", "--epsilon: it was given together with --nats; expected one"),
    *("match", "--nats", "0.1", "--epsilon", "2"),
)
cmd("match at a success of 2", "success: 2.0 was given; expected a probability", "match", "--success", "2")
cmd("sweep of nothing", "nowhere.yaml' cannot be read (No such file or", "sweep", "{tmp}/nowhere.yaml")
cmd(
    "sweep without an output",
    "names none; expected the folder of the runs; add it",
    "sweep",
    "{tmp}/s.yaml",
    s__yaml=b"cells: {a: {max_steps: 3}}\n",
)
cmd(
    "sweep with an unknown key in a cell",
    "not YAML in line 1: expected <block end>, but found '<scalar>",
    "sweep",
    "{tmp}/s.yaml",
    "--dry_run",
    s__yaml=b"output_dir: {tmp}/o\nmodel: m\ndata: {train: p.csv}\ncells: {a: {stepps: 3}}\n",
)
