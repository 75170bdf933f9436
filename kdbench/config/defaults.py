"""The configuration tree: every key, its default and, where a value has rules, the rule.

Names are mdistiller's where it has them. The tree names no method: a method's node comes from its class (``defaults``).
"""

from __future__ import annotations

from typing import Any

from kdbench.domains import Domain

Tree = dict[str, Any]


#: names of the trainer that keeps the gradients of task and distillation apart; mdistiller has one of its own for CRD
DOT_TRAINERS = ("dot", "crd_dot")


def _network() -> Tree:
    return {
        "WEIGHTS": "",  # "" = fresh, "pretrained" = the name's published weights, else a file
        "WEIGHTS_EMA": False,  # of a file that holds weights and their moving average, take the average
        "NORM": "auto",  # auto | dataset | none | imagenet | inception | [[mean x 3], [std x 3]]
        "INPUT_SIZE": 0,  # 0 = the network's own, or the data's where it takes any size
        "STAGES": "auto",  # auto | ofakd | [indices of timm's intermediates]
        "HEAD": "strict",  # strict | reset (drop a classifier of another width)
        "FREEZE": "",  # "" | backbone (train the classifier alone)
        "OPTIONS": {},  # handed to the builder
    }


def defaults() -> Tree:
    """A fresh copy of the tree without the methods' nodes. No default is None, so that every key has a type."""
    return {
        "EXPERIMENT": {
            "PROJECT": "distill",  # project or experiment of trackers
            "NAME": "",
            "TAG": "default",
            "SEED": 1,
        },
        "DATASET": {
            "TYPE": "cifar100",
            "ROOT": "data",
            "NUM_WORKERS": 2,
            "IMAGE_SIZE": 0,  # 0 = as the data set is
            "REPEAT": 1,  # passes over the training set that make one epoch
            # repeated augmentation: copies of an image in an epoch, which is no longer and has fewer images; 0 = off
            "AUG_REPEATS": 0,
            "PER_CLASS": 0,  # training images per class; 0 = all
            "SUBSET_SEED": -1,  # -1 = the run's seed
            "VAL_FRACTION": 0.0,
            "AUG_SEED": -1,  # -1 = the run's seed
            "OPTIONS": {},  # handed to the data set's builder
            "TEST": {"BATCH_SIZE": 64},
        },
        "AUGMENT": {
            "CROP": "auto",  # auto = the data set's standard | none | pad | rrc
            "PAD": -1,  # pixels; -1 = the data set's standard
            "FLIP": -1.0,  # probability; -1 = the data set's standard
            "RRC_SCALE": (0.08, 1.0),
            "RRC_RATIO": (0.75, 4 / 3),
            "INTERPOLATION": "bilinear",  # bilinear | bicubic | random
            "COLOR_JITTER": 0.0,  # strength of brightness, contrast, saturation; not used where AUTO is set, as in timm
            "AUTO": "",  # "" | rand-m9-mstd0.5-inc1 and the like (timm's RandAugment) | cifar (AutoAugment)
            "ERASE": 0.0,  # probability of random erasing
            "MIXUP": 0.0,  # parameter of the Beta distribution; 0 = off
            "CUTMIX": 0.0,
            "MIXUP_SWITCH": 0.5,  # probability of cutmix where both are on
            # evaluation: the centre of a resize to size / CROP_PCT; 0 = 0.875 for image files, all of an image in memory
            "CROP_PCT": 0.0,
            "EVAL_INTERPOLATION": "bilinear",  # bilinear | bicubic
        },
        "DISTILLER": {
            "TYPE": "NONE",
            "TEACHER": "",
            # several: networks, or {MODEL: network, WEIGHTS: file, ...}, whose keys are put over those of TEACHER
            "TEACHERS": (),
            "STUDENT": "resnet20",
            "PRESET": "",
            # of a composition ("CRD+KD"): factors of the parts' terms and of their cross entropies; () = 1 each
            "PART_WEIGHTS": (),
            "PART_CE_WEIGHTS": (),
        },
        "TEACHER": {
            **_network(),
            "PRECISION": "auto",  # auto (SOLVER.PRECISION) | fp32 | tf32 | bf16 | fp16
            "FLOOR": -1.0,  # lowest top-1 (in [0, 1]) to learn from; -1 = 1/K + 0.25 (1 - 1/K)
        },
        "STUDENT": _network(),
        "SOLVER": {
            "TRAINER": "base",  # base | dot (a momentum for the task's gradient, one for the distillation's); crd, ours: as base
            "TYPE": "SGD",
            "BATCH_SIZE": 64,  # over all processes
            "ACCUMULATE": 1,  # parts of a batch, computed one after the other for one step
            "EPOCHS": 240,
            "LR": 0.05,
            "LR_DECAY_STAGES": (150, 180, 210),
            "LR_DECAY_RATE": 0.1,
            "WEIGHT_DECAY": 0.0001,
            "MOMENTUM": 0.9,
            "NESTEROV": False,
            "DECAY_ALL": True,  # False exempts biases and one-dimensional parameters, as timm does
            "SCHEDULE": "step",  # step | cosine | constant
            "SCHEDULE_PER": "epoch",  # epoch | step
            "MIN_LR": 0.0,
            "WARMUP_EPOCHS": 0.0,
            "WARMUP_LR": 0.0,
            "CLIP_GRAD": 0.0,  # largest norm of the gradient; 0 = off
            "LABEL_SMOOTHING": 0.0,
            # the task's own loss: ce | bce (binary cross entropy of each class, as timm's; its mean over samples and classes)
            "TASK_LOSS": "ce",
            "BCE_TARGET_THRESH": -1.0,  # binary cross entropy makes targets above it 1 and the others 0; -1 = off
            "EMA": 0.0,  # decay of a moving average of the student's weights, which is what is evaluated; 0 = off
            "EVAL_EVERY": 1,
            "PATIENCE": 0,  # evaluations in a row without a better val_top1 behind which the run stops; 0 = it never does
            "KEEP": "last",  # last | best (by val_top1): the epoch whose weights are left
            "CHECKPOINT_EVERY": "",  # within an epoch: "500 steps" | "10 minutes"; "" = at its end
            "NON_FINITE": "stop",  # stop | skip (a step with NaN or infinity changes nothing, and is counted)
            "MAX_SKIPPED": 10,  # steps of a run that may be skipped; with one more it ends
            "PRECISION": "fp32",  # fp32 | tf32 | bf16 | fp16; evaluation is in fp32
            "CHANNELS_LAST": False,
            "COMPILE": False,
            "GRAPH": "auto",  # auto (steps on a GPU are replayed from a CUDA graph where they can be) | off
            "DOT": {
                "DELTA": 0.075,  # the distillation's momentum is MOMENTUM + DELTA, the task's MOMENTUM - DELTA
            },
        },
        "CACHE": {  # of the teacher's outputs
            "ENABLED": False,
            "DIR": "",  # "" = LOG.PREFIX/.teacher-cache
            "DTYPE": "fp16",  # fp16 | fp32
            "VIEWS": 0,  # augmented views that the epochs use in turn; 0 = every epoch its own
            "MAX_GB": 20.0,
        },
        "RUNTIME": {
            "DEVICE": "auto",  # auto (a GPU where there is one) | cpu | cuda | cuda:<index>
            "THREADS": 0,  # of the CPU; 0 = PyTorch's choice
            "DETERMINISTIC": True,  # a GPU repeats a run to the bit; an operation that cannot is an error
        },
        "LOG": {
            "PREFIX": "runs",
            "TRACKERS": (),  # csv | tensorboard | wandb | mlflow, several of them, or names of your own
            "TENSORBOARD": False,  # as tensorboard in TRACKERS
            "TENSORBOARD_FREQ": 500,  # steps between two points of the loss terms there
            "SAVE_CHECKPOINT_FREQ": 40,
            "WANDB": False,
        },
    }


#: Kinds of data sets of which ``DATASET.TYPE`` says where they lie: ``folder:<path>``.
PLACED = ("folder", "csv", "npz", "hf")
#: Keys that hold a path; of ``DATASET.TYPE`` what follows the colon.
PATHS = ("TEACHER.WEIGHTS", "STUDENT.WEIGHTS", "DATASET.TYPE", "DATASET.ROOT", "CACHE.DIR", "LOG.PREFIX")

#: Keys whose value may be a word or a list.
WORD_OR_LIST = {f"{role}.{key}" for role in ("TEACHER", "STUDENT") for key in ("NORM", "STAGES")}

#: Keys that are lists of words, of which one alone may stand without brackets.
WORDS = ("LOG.TRACKERS",)

#: What the values of a key may be: words, or numbers (of a list, each of its entries); see :mod:`kdbench.domains`.
DOMAINS: dict[str, Domain] = {
    "EXPERIMENT.SEED": "[0, 2147483647]",
    "DATASET.NUM_WORKERS": "[0, 256]",
    "DATASET.IMAGE_SIZE": "[0, 4096]",
    "DATASET.REPEAT": "[1, 1000000]",
    "DATASET.AUG_REPEATS": "0 or [2, 1000]",
    "DATASET.PER_CLASS": "[0, 10000000]",
    "DATASET.SUBSET_SEED": "[-1, 2147483647]",
    "DATASET.VAL_FRACTION": "[0, 0.9]",
    "DATASET.AUG_SEED": "[-1, 2147483647]",
    "DATASET.TEST.BATCH_SIZE": "[1, 1000000]",
    "AUGMENT.CROP": ("auto", "none", "pad", "rrc"),
    "AUGMENT.PAD": "[-1, 512]",
    "AUGMENT.FLIP": "-1 or [0, 1]",
    "AUGMENT.RRC_SCALE": "(0, 1]",
    "AUGMENT.RRC_RATIO": "(0, inf)",
    "AUGMENT.INTERPOLATION": ("bilinear", "bicubic", "random"),
    "AUGMENT.COLOR_JITTER": "[0, 1]",
    "AUGMENT.ERASE": "[0, 1]",
    "AUGMENT.MIXUP": "[0, 1000]",
    "AUGMENT.CUTMIX": "[0, 1000]",
    "AUGMENT.MIXUP_SWITCH": "[0, 1]",
    "AUGMENT.CROP_PCT": "0 or [0.1, 1]",
    "AUGMENT.EVAL_INTERPOLATION": ("bilinear", "bicubic"),
    "DISTILLER.PART_WEIGHTS": "[0, inf)",
    "DISTILLER.PART_CE_WEIGHTS": "[0, inf)",
    "TEACHER.INPUT_SIZE": "[0, 4096]",
    "TEACHER.HEAD": ("strict", "reset"),
    "TEACHER.FREEZE": ("", "backbone"),
    "TEACHER.FLOOR": "-1 or [0, 1]",
    "TEACHER.PRECISION": ("auto", "fp32", "tf32", "bf16", "fp16"),
    "STUDENT.INPUT_SIZE": "[0, 4096]",
    "STUDENT.HEAD": ("strict", "reset"),
    "STUDENT.FREEZE": ("", "backbone"),
    "SOLVER.TRAINER": ("base", "crd", "ours", *DOT_TRAINERS),
    "SOLVER.TYPE": ("SGD", "ADAMW", "ADAM", "LAMB"),
    "SOLVER.BATCH_SIZE": "[1, 1000000]",
    "SOLVER.ACCUMULATE": "[1, 1000000]",
    "SOLVER.EPOCHS": "[1, 1000000]",
    "SOLVER.LR": "[0, 1000]",
    "SOLVER.LR_DECAY_STAGES": "[0, 1000000]",
    "SOLVER.LR_DECAY_RATE": "(0, 1]",
    "SOLVER.WEIGHT_DECAY": "[0, 1000]",
    "SOLVER.MOMENTUM": "[0, 1)",
    "SOLVER.SCHEDULE": ("step", "cosine", "constant"),
    "SOLVER.SCHEDULE_PER": ("epoch", "step"),
    "SOLVER.MIN_LR": "[0, 1000]",
    "SOLVER.WARMUP_EPOCHS": "[0, 1000000]",
    "SOLVER.WARMUP_LR": "[0, 1000]",
    "SOLVER.CLIP_GRAD": "[0, 1000000000]",
    "SOLVER.LABEL_SMOOTHING": "[0, 1)",
    "SOLVER.TASK_LOSS": ("ce", "bce"),
    "SOLVER.BCE_TARGET_THRESH": "-1 or [0, 1)",
    "SOLVER.EMA": "[0, 1)",
    "SOLVER.EVAL_EVERY": "[1, 1000000]",
    "SOLVER.PATIENCE": "[0, 1000000]",
    "SOLVER.KEEP": ("last", "best"),
    "SOLVER.NON_FINITE": ("stop", "skip"),
    "SOLVER.MAX_SKIPPED": "[0, 1000000]",
    "SOLVER.PRECISION": ("fp32", "tf32", "bf16", "fp16"),
    "SOLVER.GRAPH": ("auto", "off"),
    "SOLVER.DOT.DELTA": "[0, 1)",
    "CACHE.DTYPE": ("fp16", "fp32"),
    "CACHE.VIEWS": "[0, 1000000]",
    "CACHE.MAX_GB": "[0, 1000000]",
    "RUNTIME.THREADS": "[0, 1024]",
    "LOG.TENSORBOARD_FREQ": "[1, 1000000000]",
    "LOG.SAVE_CHECKPOINT_FREQ": "[1, 1000000000]",
}

#: Keys of mdistiller that are accepted and mean nothing here, with what is said of them.
IGNORED = {
    "LOG.WANDB": "LOG.TRACKERS=[wandb] tracks a run there",
    "LOG.SAVE_CHECKPOINT_FREQ": "a checkpoint is written at every epoch; SOLVER.CHECKPOINT_EVERY writes more",
}


#: Keys that do not change what is computed; they are left out of a run's identity.
NOT_IDENTITY = (
    "LOG",
    "RUNTIME",
    "EXPERIMENT.PROJECT",
    "EXPERIMENT.NAME",
    "EXPERIMENT.TAG",
    "DATASET.ROOT",
    "DATASET.NUM_WORKERS",
    "DATASET.TEST",
    "CACHE.DIR",
    "CACHE.MAX_GB",
    "TEACHER.WEIGHTS",
    "STUDENT.WEIGHTS",
    "SOLVER.COMPILE",
    "SOLVER.GRAPH",
    "SOLVER.CHECKPOINT_EVERY",
    "SOLVER.MAX_SKIPPED",
)

#: Keys that have another name now, and values that do.
RENAMED: dict[str, tuple[str, dict[str, str]]] = {
    "SOLVER.AMP": ("SOLVER.PRECISION", {"none": "fp32"}),
    "TEACHERS": ("DISTILLER.TEACHERS", {}),
}
