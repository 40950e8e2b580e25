"""Options of each job: these schemas define the form, command-line validation and the HTTP schema."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from adapters.vlm_quantization.codes import CODE_LENGTHS
from adapters.vlm_quantization.data.sources import forms_in_words
from adapters.vlm_quantization.data.split_names import VAL_SHARE
from adapters.vlm_quantization.index.features import FeatureKind
from adapters.vlm_quantization.option_fields import (
    CollectionSource,
    EncoderName,
    EncodingBatch,
    FilePath,
    Languages,
    Lengths,
    all_but,
)
from adapters.vlm_quantization.towers import registry
from adapters.vlm_quantization.towers.device import Device
from workbench import Options


class CollectionOptions(Options):
    """Which pictures to use."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-more": [
                "split_seed",
                "restval",
                "val_share",
                "keep_lookalikes_together",
                "accept_training_pictures_in_test",
            ]
        }
    )

    collection: CollectionSource = Field(
        "emoji",
        title="Collection",
        description=f"{forms_in_words()}. Options follow a question mark, and several are joined by a plus "
        "sign between blanks: 'photos.csv?image=file&caption=title + emoji'",
        min_length=1,
    )
    split_seed: int = Field(0, ge=0, title="Split seed", description="Decides which pictures are held out")
    restval: bool = Field(
        True,
        title="Train on restval",
        description="Collections with splits: train on restval too, as most work on Karpathy's splits does",
    )
    val_share: float = Field(
        VAL_SHARE,
        ge=0,
        le=0.5,
        title="Validation share",
        description="Collections with splits but without val: share of train to validate on; 0: none, "
        "and the last model is kept",
    )
    keep_lookalikes_together: bool = Field(
        True,
        title="Near duplicates together",
        description="Collections without splits: a picture saved again is held out with the original",
    )
    accept_training_pictures_in_test: bool = Field(
        False,
        title="Accept training pictures in the test",
        description="Collections with splits: go on although equal pictures are in train and in test",
    )


class DataCheckOptions(Options):
    """Say what a collection holds, what is broken in it, and what a training would use."""

    source: CollectionSource = Field(
        title="Collection",
        description=f"{forms_in_words()}. Options follow a question mark, and several are joined by a plus "
        "sign between blanks: 'photos.csv?image=file&caption=title + emoji'",
        min_length=1,
    )
    thorough: bool = Field(
        False,
        title="Thorough",
        description="Decode and compare every picture; this can take long. Else 200 are decoded",
    )


#: Name of the option ``encoder`` in earlier versions, in which it chose the picture tower alone.
OLD_ENCODER = "image_tower"


#: The text tower that ``auto`` means with a built-in encoder; other encoders have their own.
AUTO_TEXTS: dict[str, Literal["both", "ngrams"]] = {registry.PACKAGED: "both", "random": "ngrams"}


#: Learning rate of the towers by what is tuned.
TOWER_RATES = {"towers": 1e-5, "lora": 2e-4}


class FamilyTrainOptions(CollectionOptions):
    """Train a model on the training part of a collection."""

    experiment: str = Field("pictures", title="Experiment", min_length=1)
    name: str = Field("model", title="Run name", min_length=1)
    seed: int = Field(0, ge=0, title="Seed")


class TrainOptions(CollectionOptions):
    """Train hash heads on frozen features of pictures and texts, and an n-gram table from scratch."""

    model_config = all_but(
        *("collection", "experiment", "name", "encoder", "text_tower", "languages", "from_checkpoint"),
        *("seed", "seeds", "steps"),
    )

    experiment: str = Field("emoji", title="Experiment", min_length=1)
    name: str = Field("nested-128", title="Run name", min_length=1)
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (), title="Seeds", description="Several seeds: one run per seed, in one job"
    )
    encoder: EncoderName = Field(
        registry.PACKAGED, title="Encoder", description=f"Frozen unless tuned: {registry.FORMS}", min_length=1
    )
    text_tower: Literal["auto", "own", "multilingual", "ngrams", "both"] = Field(
        "auto",
        title="Text network",
        description="'own': the encoder's, frozen; 'multilingual': the packaged encoder's, which knows words "
        "of 16 languages; 'ngrams': trained from scratch; 'both': the encoder's and n-grams joined; 'auto': "
        "'both' for the packaged encoder, else the encoder's own",
    )
    languages: Languages = Field(
        (),
        title="Languages",
        description="Train on the captions in these languages only; empty: all. An evaluation measures all",
    )
    batch_size: EncodingBatch = 0
    from_checkpoint: FilePath = Field(
        "",
        title="From checkpoint",
        description="Take over this Lightning checkpoint (.ckpt) instead of training; its backbone is the "
        "model that it names, or the encoder given above",
    )
    seed: int = Field(0, ge=0, title="Seed")
    steps: int = Field(900, ge=1, le=1_000_000, title="Steps")
    batch: int = Field(256, ge=2, le=65_536, title="Concepts per batch")
    texts: int = Field(1, ge=1, le=64, title="Texts per concept", description="In a batch, with one picture")
    learning_rate: float = Field(4e-3, gt=0, title="Learning rate", description="Peak, after the warm-up")
    weight_decay: float = Field(1e-4, ge=0, title="Weight decay")
    validate_every: int = Field(150, ge=1, title="Validate every", description="In steps")
    patience: int = Field(
        6, ge=1, title="Patience", description="Validations without improvement before stopping"
    )
    refit_steps: int = Field(
        400,
        ge=0,
        le=1_000_000,
        title="Refit steps",
        description="Steps on all pictures, including held-out ones, for a model to publish; 0: no refit",
    )
    hidden: int = Field(1024, ge=1, le=65_536, title="Hidden width")
    dim: int = Field(256, ge=1, le=65_536, title="Feature width")
    text_buckets: int = Field(16_384, ge=16, le=1_048_576, title="Rows of the n-gram table")
    text_width: int = Field(128, ge=1, le=65_536, title="Width of the n-gram table")
    temperature: float = Field(0.07, gt=0, title="Temperature of codes", description="At 128 bits")
    float_temperature: float = Field(0.05, gt=0, title="Temperature of float features")
    quantisation: float = Field(0.02, ge=0, title="Quantisation weight")
    balance: float = Field(0.1, ge=0, title="Bit balance weight")
    decorrelation: float = Field(0.0, ge=0, title="Bit decorrelation weight")
    distillation: float = Field(1.0, ge=0, title="Float-to-code distillation weight")
    lengths: Lengths = Field(
        CODE_LENGTHS,
        title="Code lengths",
        description="Lengths to train and select for; a single length gives a code good only at that length",
        min_length=1,
    )
    short_weight: float = Field(
        0.5,
        ge=-4,
        le=4,
        title="Weight of short codes",
        description="A length is weighted by (128 / length) to this power; 0: equal weights",
    )
    components: int = Field(
        320, ge=1, le=65_536, title="Components", description="Principal components of picture features"
    )
    text_components: int = Field(
        512, ge=1, le=65_536, title="Text components", description="Principal components of text features"
    )
    agreement: float = Field(
        0.5,
        ge=0,
        le=4,
        title="Agreement of drawings",
        description="How strongly to downweight components in which drawings of one concept differ",
    )
    dropout: float = Field(0.2, ge=0, lt=1, title="Dropout")
    ngram_dropout: float = Field(0.1, ge=0, lt=1, title="N-gram dropout")
    ngram_softness: float = Field(
        16.0,
        ge=0,
        le=1e6,
        title="Softness of n-grams",
        description="With both: how little a text's n-grams count if training saw few of them",
    )
    part_dropout: float = Field(
        0.4,
        ge=0,
        lt=1,
        title="Dropout of n-grams as a whole",
        description="With both: how often a text's n-grams are left out, so that its features alone must do",
    )
    text_noise: float = Field(
        0.3,
        ge=0,
        title="Noise of text features",
        description="In standard deviations of a component",
    )
    noise: float = Field(
        0.3, ge=0, title="Feature noise", description="In standard deviations of a component"
    )
    style_noise: float = Field(
        0.7,
        ge=0,
        title="Style noise",
        description="Share of the difference between two drawings of another concept to add",
    )
    views: int = Field(
        0,
        ge=0,
        le=16,
        title="Views per picture",
        description="Weak and as many strong changed versions of each picture to encode in advance and train "
        "on: crops, colours, blur, erasing; 0: none",
    )
    view_share: float = Field(
        0.5, ge=0, le=1, title="Share of views", description="How often a view stands for its picture"
    )
    flip_views: bool = Field(
        False,
        title="Mirrored views",
        description="Half of the views; not where captions tell left from right, or pictures hold texts",
    )
    consistency: float = Field(
        0.0,
        ge=0,
        title="Consistency weight",
        description="With views: the share of bits in which a weak and a strong view of a picture differ",
    )
    token_dropout: float = Field(
        0.0,
        ge=0,
        le=1,
        title="Token dropout",
        description="How often a text of several words stands without some of them; one at least stays",
    )
    two_words: float = Field(
        0.3,
        ge=0,
        le=1,
        title="Share of word pairs",
        description="In the refit: how often a text consists of two words of a concept",
    )
    name_share: float = Field(
        0.7,
        ge=0,
        le=1,
        title="Share of names",
        description="How often a text is the name rather than a keyword; half as often in the refit",
    )
    threads: int = Field(
        1,
        ge=1,
        le=256,
        title="Threads",
        description="Affects rounding: results repeat only with the same number",
    )

    tune: Literal["heads", "towers", "lora"] = Field(
        "heads",
        title="Tune",
        description="'heads': the encoder stays frozen; 'towers': its weights are trained too; 'lora': a "
        "change of low rank of its linear layers is. The last two need a transformers or OpenCLIP encoder",
    )
    tower_lr: float | None = Field(
        None,
        gt=0,
        title="Learning rate of the towers",
        description="Peak. Empty: 1e-5 with tune=towers, 2e-4 with tune=lora",
    )
    text_tower_lr: float | None = Field(
        None,
        ge=0,
        title="Learning rate of the text tower",
        description="Empty: that of the towers; 0: the text tower stays frozen",
    )
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        title="Decay of learning rates by layer",
        description="Factor from each layer of a tower to the one before it; 1: one rate for all",
    )
    frozen_layers: int = Field(
        0,
        ge=0,
        title="Frozen layers",
        description="The first layers of each tower that stay as they are, with the embeddings before them",
    )
    lora_rank: int = Field(8, ge=1, le=1024, title="Rank of LoRA")
    lora_alpha: int = Field(16, ge=1, title="Scale of LoRA", description="Divided by the rank")
    accumulate: int = Field(
        1,
        ge=1,
        le=4096,
        title="Parts of a batch",
        description="Tuning: towers compute a batch in so many parts, with the gradient of the whole batch; "
        "less memory, and one more forward pass",
    )
    gradient_checkpointing: bool = Field(
        False,
        title="Gradient checkpointing",
        description="Tuning: compute activations again instead of keeping them; less memory, about 30 % more "
        "time",
    )
    clip_gradient: float = Field(
        1.0, ge=0, title="Longest gradient", description="Tuning: longer ones are scaled to it; 0: no limit"
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", title="Precision of the towers", description="Tuning: what they compute in (autocast)"
    )
    schedule: Literal["cosine", "warm_restarts"] = Field(
        "cosine", title="Schedule of learning rates", description="Warm-up and cosine, once or repeated"
    )
    restarts: int = Field(2, ge=1, le=1000, title="Restarts", description="With schedule=warm_restarts")
    warmup: float = Field(
        0.1, ge=0, lt=1, title="Warm-up", description="Share of the steps, of each period with restarts"
    )
    device: Device = Field("auto", title="Device", description="'auto': cuda, else mps, else cpu")
    resume: int | None = Field(
        None,
        title="Resume run",
        description="Go on with a run that was killed, cancelled or failed, with its options and from its "
        "last saved state, in a new run. A job whose worker was killed does so by itself",
    )
    save_state_every: float = Field(
        60.0, ge=0, title="Save state every", description="In seconds, to resume from; 0: after every step"
    )

    @model_validator(mode="before")
    @classmethod
    def _read_old_name(cls, values: Any) -> Any:
        """Read the settings of runs from before encoders had two towers."""
        if isinstance(values, dict) and OLD_ENCODER in values:
            values = dict(values)
            old = values.pop(OLD_ENCODER)
            name = registry.PACKAGED if old == "efficientnet-lite0" else old
            if values.setdefault("encoder", name) != name:
                raise ValueError(f"{OLD_ENCODER} is the old name of encoder; leave it out")
        return values

    @model_validator(mode="after")
    def _choose_texts(self) -> TrainOptions:
        """Say which text tower ``auto`` is, so that a run's settings do."""
        if self.text_tower == "auto":
            self.text_tower = AUTO_TEXTS.get(self.encoder, "own")
        return self

    @model_validator(mode="after")
    def _check_views(self) -> TrainOptions:
        """Refuse a weight of what there is none of."""
        if self.consistency and not self.views:
            raise ValueError("consistency compares views of a picture: set views to 1 or more")
        if self.consistency and self.tune != "heads":
            raise ValueError("consistency needs views that are encoded in advance: leave it out with tune")
        return self

    @model_validator(mode="after")
    def _choose_tower_lr(self) -> TrainOptions:
        """Say which learning rate of the towers an empty one is, so that a run's settings do."""
        if self.tower_lr is None and self.tune != "heads":
            self.tower_lr = TOWER_RATES[self.tune]
        return self


class FamilyEvalOptions(Options):
    """Evaluate a checkpoint on held-out pictures, or on another collection."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-more": [
                "checkpoint",
                "train_in_gallery",
                "accept_training_pictures_in_test",
                "near_duplicates",
                "flags",
                "baselines",
                "seeds",
                "worst",
                "resamples",
                "single_length",
            ]
        }
    )

    run: int | None = Field(None, title="Run", description="Empty: the newest run that has a checkpoint")
    checkpoint: str = Field("best.safetensors", title="Checkpoint", min_length=1)
    collection: CollectionSource = Field(
        "",
        title="Collection",
        description="Empty: the collection the run was trained on; else any that training takes",
    )
    split: Literal["", "test", "val", "train", "restval", "query", "gallery", "all"] = Field(
        "",
        title="Split",
        description="Empty: what the run held out, or the test split of another collection (all of it if it "
        "has no splits)",
    )
    train_in_gallery: bool = Field(
        True,
        title="Training pictures in the gallery",
        description="Collections with queries: rank against the training pictures too, as DCMH does",
    )
    accept_training_pictures_in_test: bool = Field(
        False,
        title="Accept training pictures in the test",
        description="Measure although the model was trained on pictures of the test; the report says so",
    )
    near_duplicates: bool = Field(
        True,
        title="Look for near duplicates",
        description="Warn of test pictures that look like training pictures; every picture is decoded once",
    )
    ks: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1, 5, 10), title="k", description="Cut-offs of P@k and R@k", min_length=1
    )
    flags: bool = Field(True, title="With flags", description="Include country and region flags")
    protocol: Literal["default", "dcmh", "mith", "ucch", "djsrh", "deephash", "clip", "trec"] = Field(
        "default",
        title="Protocol",
        description="Rules of the metrics; 'default' has no cut-off and no tie order",
    )
    directions: tuple[Literal["t2i", "i2t", "i2i", "t2t"], ...] = Field(
        ("t2i", "i2t"), title="Directions", description="t: text, i: image", min_length=1
    )
    relevance: Literal["item", "labels", "graded"] = Field(
        "item", title="Relevance", description="Same item, any shared label, or graded by shared labels"
    )
    baselines: bool = Field(
        True,
        title="Baselines",
        description="Signs of the float features, random hyperplanes, PCA-sign, ITQ, rescoring",
    )
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (), title="Seeds", description="Also evaluate the runs with these seeds in the same experiment"
    )
    stability: int | None = Field(
        None,
        ge=0,
        le=500,
        title="Stability",
        description="Test pictures and texts to change (views, retouching, dropped words) and encode again; "
        "0: none. Empty: 60 with the packaged encoder, and none where encoding takes long",
    )
    worst: int = Field(6, ge=0, le=60, title="Worst queries", description="How many to show, with pictures")
    resamples: int = Field(
        1_000, ge=10, le=100_000, title="Bootstrap draws", description="For the intervals over queries"
    )


class EvalOptions(FamilyEvalOptions):
    """Evaluate a checkpoint on held-out pictures, or on another collection."""

    batch_size: EncodingBatch = 0
    single_length: bool = Field(
        False,
        title="Separately trained codes",
        description="Train a separate code for each length as a baseline: one training per length",
    )
    device: Device = Field("auto", title="Device", description="'auto': cuda, else mps, else cpu")


#: The float features that an index stores beside the codes.
StoredFeatures = Annotated[
    FeatureKind,
    Field(
        title="Features",
        description="Float features to store, for search by cosine: float16 takes half and int8 a quarter of "
        "the space of float32, and finds nearly the same; 'none': the index is searched by its codes only",
    ),
]


class FamilyIndexOptions(Options):
    """Build a searchable index of a collection with a checkpoint."""

    name: str = Field("pictures", title="Index name", min_length=1)
    run: int | None = Field(None, title="Run", description="Empty: the newest run that has a checkpoint")
    checkpoint: str = Field(
        "",
        title="Checkpoint",
        description="Empty: the refit on all pictures if the run has one, else the best",
    )
    collection: CollectionSource = Field(
        "",
        title="Collection",
        description="Empty: the collection the run was trained on; else any that training takes, or a folder "
        "of pictures without captions",
    )
    features: StoredFeatures = "float32"


Codes = Literal["auto", "trained", "itq", "sign"]


class IndexOptions(FamilyIndexOptions):
    """Build a searchable index of a collection with a checkpoint, or with codes that need no training."""

    name: str = Field("emoji", title="Index name", min_length=1)
    encoder: EncoderName = Field(
        "", title="Encoder", description=f"Empty: the run's, or else packaged. {registry.FORMS}"
    )
    codes: Codes = Field(
        "auto",
        title="Codes",
        description="'trained': of a run; 'itq', 'sign': fitted to a sample of the pictures, without "
        "training; 'auto': of the newest run, or, if an encoder is named, of a run of it that was trained on "
        "these pictures; else ITQ",
    )
    batch_size: EncodingBatch = 0
    device: Device = Field("auto", title="Device", description="'auto': cuda, else mps, else cpu")


class QuickIndexOptions(Options):
    """Make a collection searchable at once, without training if there is no run to use."""

    name: str = Field(title="Index name", min_length=1)
    encoder: EncoderName = Field(registry.PACKAGED, title="Encoder", description=registry.FORMS, min_length=1)
    codes: Codes = Field(
        "auto",
        title="Codes",
        description="'trained': of a run; 'itq', 'sign': fitted to some of the pictures; 'auto': of a run "
        "with this encoder that was trained on these pictures, else 'itq'",
    )
    batch_size: EncodingBatch = 0
    features: StoredFeatures = "float32"
