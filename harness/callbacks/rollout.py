"""Makes an epoch an iteration of self-improvement: it trains on the policy's own, freshly collected rollouts."""

from __future__ import annotations

import contextlib
import copy
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn

from harness.callbacks.gather import gathered_weights, whole_copy
from harness.callbacks.heartbeat import ranks_of
from harness.callbacks.held_out import check_held_out
from harness.callbacks.held_out_accuracy import HeldOutAccuracy
from harness.callbacks.ledger import held_beside, reward_models
from harness.callbacks.stopwatch import Stopwatch, describe
from harness.datamodules.solutions import check_solutions
from harness.engines import EngineConfig, SyncProof, open_engine, verify_sync
from harness.engines.group import GroupEngine, RankGroup
from harness.engines.memory import share_beside
from harness.errors import InputError
from harness.models.weights import model_version, named_weights
from harness.modules.base import epoch_is_whole
from harness.objectives.objective import Objective
from harness.problems import read_all_problems
from harness.progress import track
from harness.prompts.find import find_template
from harness.protocols import Engine, Reward, SamplingScheduler, SearchMethod, Selector, put_to_sleep
from harness.provenance import check_asked
from harness.rollouts.ahead import Ahead
from harness.rollouts.dispatcher import Dispatcher
from harness.rollouts.iteration import Iteration, IterationFiles, Replay, read_manifest, replay_rows
from harness.rollouts.team import SLOTS, Team
from harness.selection.policy_rows import PolicyRows
from harness.selection.top_k import TopK
from harness.sources import find_source
from harness.store import read_json, remove_leftovers

NUM_SYNC_PROMPTS = 4


class RolloutCallback(Callback):
    """Before each epoch: sync the engine, choose a sampling setting, sample, score, select, and feed the datamodule.

    Everything it decides lies in `<run directory>/rollouts` (see `harness.rollouts.iteration`), is complete or absent,
    and is read back instead of being sampled again when a run resumes. It runs when the training loader is built, which
    Lightning does after the previous epoch's checkpoint, so a crash while sampling loses no training. Set
    `reload_dataloaders_every_n_epochs: 1`; `max_epochs` is the number of iterations.

    Where several ranks train, every one has an engine of its own beside its part of the trainer, and takes its share of
    the problems (`harness.rollouts.team`); the first decides and selects. With an `engine.tensor_parallel_size` of 2
    two consecutive ranks hold one engine, and so on: the first of them takes problems, grades and scores, and the
    others compute with it (`harness.engines.group`). What is written does not depend on the number of ranks, and a run
    may be resumed with another one.

    With `staleness: 1` an engine on other devices than those of the training samples iteration k+1 while iteration k is
    trained, by the weights that training iteration k-1 has left: always those, whatever takes longer, and after a kill
    too. The first iteration is sampled before all training, by the weights that the run starts from, and the second by
    the same ones. At the boundary before iteration k the engine is idle, takes the weights and proves them; a thread
    (`harness.rollouts.ahead`) then measures this policy, where it is its turn, and samples by it. Training needs
    neither, so it hides both. No checkpoint is saved before the thread is through: whichever one a run resumes from,
    either it holds the weights that draw the next rows, or those rows are on disk. A run that had reached its
    `max_epochs` and is given more has none ahead: it goes on as it began, with an iteration of the present weights.

    Args:
        problems: files of training problems with answers: JSONL, parquet, ..., folders, data sets of the hub, or
            mappings with path, split, columns, limit (`harness.sources.Source`).
        scheduler: decides temperature, threshold and number of samples; `FixedSampling` or `BalancedSampling`.
        template: name of the prompt template.
        select: chooses the training rows; default `PolicyRows` of the objective of a `PolicyGradientModule`, else
            `TopK`.
        reward: of the responses; default is the outcome alone.
        search: how responses are found; default is independent samples.
        probe_problems: files of problems on which the scheduler compares settings.
        probe_among_problems: take probe problems that are training problems too, as B-STaR does; what is chosen on them
            is biased towards what the policy has learnt by heart.
        problems_per_iteration: training problems sampled in an iteration; default all.
        hint: prompt with {question} and {answer} by which problems without a right response are sampled again, as
            STaR's rationalisation (arXiv:2203.14465); "" does not.
        replay_files: JSONL files of `prompt` and `response` rows to mix into every iteration.
        replay_share: replayed rows for each selected row.
        evaluation: problems on which the policy is measured before the first and after every iteration.
        engine: which engine samples, and its memory.
        chunk_size: without effect, for configurations of versions that saved rows in chunks.
        grader: name of the grader.
        seed: of the sampling; default is the run's `seed_everything`. A resumed run must keep it.
        sync_tolerance: largest difference of log-probabilities, in nats, between the engine and the training model that
            counts as agreement; None is what `harness.engines.verify_sync` takes for the number formats at hand.
        sampling_ranks: "all" ranks sample, on the devices on which they train, or the "first" alone while the others
            wait. Replicas on a Ray cluster (`engine.kind: ray`) get their requests from the first.
        staleness: how many iterations of training lie between the weights that sample an iteration and those that its
            training starts from. With 1 an engine apart (`engine.kind: ray`, or servers with `weights_folder`) samples
            the next iteration while the present one is trained.
    """

    def __init__(
        self,
        problems: list[str | dict[str, Any]],
        scheduler: SamplingScheduler,
        template: str | dict[str, Any] = "plain",
        select: Selector | None = None,
        reward: Reward | None = None,
        search: SearchMethod | None = None,
        probe_problems: list[str | dict[str, Any]] | None = None,
        probe_among_problems: bool = False,
        problems_per_iteration: int | None = None,
        hint: str = "",
        replay_files: list[str] | None = None,
        replay_share: float = 0.0,
        evaluation: HeldOutAccuracy | None = None,
        engine: EngineConfig | None = None,
        chunk_size: int | None = None,
        grader: str = "strict",
        seed: int | None = None,
        sync_tolerance: float | None = None,
        sampling_ranks: Literal["all", "first"] = "all",
        staleness: Literal[0, 1] = 0,
    ) -> None:
        self.template = template
        self.problems, self.probe_problems = problems, probe_problems or []
        self.probe_among_problems = probe_among_problems
        self.scheduler, self.select = scheduler, select
        self.reward, self.search = reward, search
        self.problems_per_iteration = problems_per_iteration
        self.hint = hint
        self.replay_files, self.replay_share = replay_files or [], replay_share
        self.evaluation = evaluation
        self.engine_config = engine or EngineConfig()
        if self.engine_config.is_url and self.engine_config.weights_folder is None:
            raise InputError(
                f"engine.kind is {self.engine_config.kind}: a server takes the weights that are trained by a folder "
                "that it sees too; give engine.weights_folder, or vllm or transformers, which sample on the devices of "
                "the training, or ray."
            )
        if chunk_size is not None:
            sentence = "chunk_size has no effect any more: rows are saved as problems finish."
            warnings.warn(sentence, FutureWarning, stacklevel=2)
        self.grader = grader
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", "0")) if seed is None else seed
        self.sync_tolerance = sync_tolerance
        self.sampling_ranks = sampling_ranks
        self.staleness = staleness
        if staleness not in (0, 1):
            raise InputError(f"staleness is {staleness}; it must be 0 or 1.")
        if staleness and not self._apart:
            raise InputError(
                f"staleness is 1 with engine.kind {self.engine_config.kind}, which samples on the devices of the "
                "training and so not beside it; set staleness: 0, or take engine.kind: ray, or servers with "
                "weights_folder."
            )
        self.manifest: dict[str, Any] = {}
        self._engine: Engine | None = None
        self._proof: SyncProof | None = None
        self._num_met = 0
        self._ahead: Ahead[list[Callable[[], None]]] = Ahead()
        """Measures and samples beside the training; hands back what is to be told of it."""
        self._beside = 0
        """The iteration beside whose training that is done, in this start."""
        self._watch = Stopwatch()
        self._training: tuple[float, float] | None = None
        """When the present epoch began, and the seconds that saving had taken by then."""
        self._hidden = 0.0
        """Seconds of work beside the present epoch that nobody waited for."""

    # What Lightning calls, in the order in which it does.

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        self._beside = 0
        every = getattr(trainer, "reload_dataloaders_every_n_epochs", 0)
        if every != 1:
            raise InputError(
                f"trainer.reload_dataloaders_every_n_epochs is {every}; rollouts need 1, or every epoch would train "
                "on the first iteration's rows."
            )
        self._template = find_template(self.template)
        if getattr(trainer.datamodule, "check_solutions", True):  # type: ignore[attr-defined]
            pooled = self.problems if isinstance(self.select, TopK) and self.select.with_gold else []
            check_solutions([*map(find_source, [*self.replay_files, *pooled])], self._template)
        self._plan = self._load(pl_module)
        self._check_tokenizers(pl_module.tokenizer, trainer.datamodule.tokenizer)  # type: ignore[attr-defined]
        self.folder = Path(trainer.default_root_dir) / "rollouts"
        if trainer.is_global_zero:
            remove_leftovers(self.folder)
            for path in sorted(self.folder.glob("eval_[0-9]*.json")):
                read_manifest(path)
            for path in sorted(self.folder.glob("iter_[0-9]*[0-9].json")):
                self._check_staleness(path, read_manifest(path))
        self._check_evaluations()
        self._ranks = ranks_of(trainer)
        self._ranks.check_shared(self.folder)
        everyone = self.sampling_ranks == "all" and not self._apart
        self._group = self._group_of(trainer) if everyone else None
        slots = self.engine_config.max_num_seqs or SLOTS
        self._crew = Team(self._ranks, slots, self._group.size if self._group else 1)
        self._team = self._crew if everyone else Team(slots=slots)
        trainer.datamodule.refresh = lambda _: self.ensure(trainer)  # type: ignore[attr-defined]

    def _group_of(self, trainer: Trainer) -> RankGroup | None:
        """The ranks with which this one holds an engine; None where it holds its own."""
        config, size = self.engine_config, self.engine_config.tensor_parallel_size
        if self._ranks.size == 1 or size == 1:
            return None
        given = f"engine.tensor_parallel_size is {size} and all ranks sample"
        if config.kind == "transformers":
            raise InputError(f"{given}, but transformers samples on one device; set it to 1, or engine.kind: vllm.")
        if config.distributed_executor_backend is not None:
            raise InputError(
                f"{given}, so their processes are vLLM's workers; leave out engine.distributed_executor_backend "
                f"({config.distributed_executor_backend}), or set sampling_ranks: first."
            )
        local = self._ranks.size // trainer.num_nodes
        if local % size:
            raise InputError(
                f"{given}: {size} consecutive ranks hold one engine, but the {local} ranks of a machine are not a "
                f"multiple of {size}; set it to a divisor of {local}, or sampling_ranks: first."
            )
        return RankGroup(self._ranks.rank // size, self._ranks.rank % size, size)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._training = time.perf_counter(), _seconds_of_saving(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._ahead.check()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Comes before the checkpoint of the epoch's end."""
        if self.staleness:
            with self._running(trainer, "wait"):
                self._finish_ahead(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """In the middle of an epoch a checkpoint waits too: it does not hold the weights that sample at the time."""
        if self.staleness:
            self._finish_ahead(trainer)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.manifest = state_dict["manifest"]

    def state_dict(self) -> dict[str, Any]:
        return {"manifest": self.manifest}

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the policy after the last iteration; the epoch's checkpoint is saved already.

        Not after one that a limit on steps or time has cut short: a resumed run trains on the rest of it.
        """
        iteration = _epochs_trained(trainer)
        self._account(trainer, iteration)
        if not epoch_is_whole(trainer):
            rank_zero_info("the last iteration was cut short; the policy is measured when it is whole")
        elif self.evaluation and _missing(trainer, self._evaluation_file(iteration)):
            self._work(trainer, lambda dispatcher: self._evaluate(trainer, dispatcher, iteration))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The same where Lightning skips `on_train_end`, because a resumed run finds all epochs trained."""
        self.on_train_end(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._ahead.stop()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._ahead.stop()
        if self._engine is not None:
            self._engine.close()
            self._engine = self._proof = None

    # What it does.

    def _load(self, module: Any) -> Iteration:
        """Read and check the files."""
        replay = replay_rows(self.replay_files, lambda problem: self._template.render(problem, module.tokenizer))
        self._objective: Objective | None = getattr(module, "objective", None)
        if self.staleness and self._objective is not None:
            _check_objective(self._objective)
        default = TopK() if self._objective is None else PolicyRows(self._objective)
        plan = Iteration(
            problems=read_all_problems(self.problems),
            scheduler=self.scheduler,
            select=self.select or default,
            probe_problems=read_all_problems(self.probe_problems),
            probe_among_problems=self.probe_among_problems,
            reward=self.reward,
            search=self.search,
            problems_per_iteration=self.problems_per_iteration,
            hint=self.hint,
            replay=Replay(replay, self.replay_share),
            grader=self.grader,
            seed=self.seed,
            staleness=self.staleness,
        )
        plan.check()
        measured = self.evaluation.load() if self.evaluation else []
        check_held_out(plan, measured, replay, lambda problem: self._template.render(problem, module.tokenizer))
        return plan

    def _check_tokenizers(self, engine: Any, datamodule: Any) -> None:
        """Raise `InputError` if a prompt that is sampled from would be trained on as other tokens."""
        for problem in self._plan.problems[:NUM_SYNC_PROMPTS]:
            sampled, trained = (self._template.encode(problem, tokenizer) for tokenizer in (engine, datamodule))
            if sampled != trained:
                raise InputError(
                    f"the prompt of problem '{problem.id}' is {len(sampled)} tokens to the policy and its engine and "
                    f"{len(trained)} others to the datamodule's tokenizer; leave out the datamodule's `tokenizer`."
                )

    def _check_staleness(self, path: Path, manifest: dict[str, Any]) -> None:
        """Raise `InputError` if the iterations before were sampled by weights of another age than the next will be."""
        then = (manifest.get("asked") or {}).get("staleness", 0)
        if then != self.staleness:
            raise InputError(
                f"{path}: of a run with staleness {then}, now {self.staleness}; keep staleness: {then}, or start in a "
                "new run directory."
            )

    def _check_evaluations(self) -> None:
        """Raise `InputError` if the policies before were measured otherwise than the next ones will be."""
        if self.evaluation is None:
            return
        asked = self.evaluation.asked(self._template, self.grader)
        for path in self.evaluation.result_files(self.folder):
            then = read_json(path).get("asked")
            check_asked(path, then, asked, "measure as before, or start in a new run directory.")

    def ensure(self, trainer: Trainer) -> list[str]:
        """The training files of the epoch that comes next, the newest, last, collected if it is not on disk."""
        # `current_epoch` lags behind by one when a run resumes from a checkpoint of an epoch's end.
        self._account(trainer, _epochs_trained(trainer))
        iteration = min(_epochs_trained(trainer) + 1, trainer.max_epochs or 1)
        files = IterationFiles(self.folder, iteration)
        found = not _missing(trainer, files.manifest)
        if found:
            self.manifest = read_manifest(files.manifest)
            remedy = "start in a new run directory, or remove that file to select from its rollouts again."
            check_asked(files.manifest, self.manifest.get("asked"), self._plan.asked(self._template), remedy)
        ahead = self._to_make_ahead(trainer, iteration, found)
        self._beside = iteration if ahead else self._beside
        if not found or ahead:

            def work(dispatcher: Dispatcher) -> None:
                if not found:
                    if self._to_measure(iteration - 1):
                        self._evaluate(trainer, dispatcher, iteration - 1)
                    self._collect(trainer, dispatcher, iteration)
                if ahead:
                    self._start_ahead(trainer, dispatcher, iteration)

            self._work(trainer, work)
        if not found:
            self.manifest = read_manifest(files.manifest)
        earlier = self._objective.replay_iterations if self._objective else 0
        first = max(1, iteration - earlier)
        return [str(IterationFiles(self.folder, number).train) for number in range(first, iteration + 1)]

    def _to_make_ahead(self, trainer: Trainer, iteration: int, found: bool) -> bool:
        """Whether the policy that the training of an iteration is about to start from has work meanwhile.

        Raises:
            InputError: it has, but a run that resumes within the iteration does not hold its weights any more.
        """
        progress: Any = trainer.fit_loop.epoch_progress.current
        # It may be under way, as Lightning asks a second time for the first loader of a run that resumes.
        if not self.staleness or progress.processed >= iteration or self._beside == iteration:
            return False
        further = IterationFiles(self.folder, iteration + 1).manifest
        to_sample = iteration < (trainer.max_epochs or 1) and _missing(trainer, further)
        within = progress.started > progress.processed
        if within and to_sample:
            raise InputError(
                f"{further}: missing, and its rollouts are drawn by the weights that iteration {iteration} began with, "
                "which a checkpoint from the middle of it does not hold; resume from the checkpoint of an iteration's "
                f"end, or set trainer.max_epochs: {iteration}."
            )
        # Where the iteration's own rollouts are not there yet, the policy is measured before they are drawn.
        return to_sample or (found and not within and trainer.strategy.broadcast(self._to_measure(iteration - 1)))

    def _start_ahead(self, trainer: Trainer, dispatcher: Dispatcher, iteration: int) -> None:
        """Begin what is made while an iteration is trained, by the policy that its training starts from."""
        for model in reward_models(self.reward):
            model.load()  # changes settings of torch for a moment, which training would see
        dispatcher.tokenizer = copy.deepcopy(dispatcher.tokenizer)  # two threads must not encode with one
        further: int | None = iteration + 1
        if iteration == (trainer.max_epochs or 1) or IterationFiles(self.folder, iteration + 1).manifest.exists():
            further = None
        else:
            version = dispatcher.engine.version
            rank_zero_info(f"iteration {further} is sampled by weights {version} while iteration {iteration} trains")
        self._ahead.start(lambda: self._make_ahead(trainer, dispatcher, iteration - 1, further))

    def _make_ahead(
        self, trainer: Trainer, dispatcher: Dispatcher, trained: int, further: int | None
    ) -> list[Callable[[], None]]:
        """In a thread: measure the policy after the iterations that are trained, sample a further one by it.

        Nothing here logs, shows progress or uses the Trainer's profiler, which are the main thread's.
        """
        told: list[Callable[[], None]] = []
        if self._to_measure(trained):
            told.append(partial(self._tell_measured, trainer, trained, self._measure(dispatcher, trained)))
        if further is not None:

            def go_on(*_: object) -> None:
                self._ahead.go_on()
                if trainer.received_sigterm:
                    raise SIGTERMException

            manifest = self._plan.run(further, self.folder, dispatcher, go_on, self._team, staleness=1)
            told.append(partial(self._tell_collected, trainer, manifest, sum(manifest["seconds"].values())))
        self._rest()
        return told

    def _finish_ahead(self, trainer: Trainer) -> None:
        """Return once what is made beside the training is on disk, and tell of it; all ranks must call it."""
        if told := self._ahead.wait():
            self._hidden += self._ahead.hidden
            for tell in told:
                tell()
        self._meet("ahead")  # the others wait here, as the next collective operation has a time-out

    def _account(self, trainer: Trainer, iteration: int) -> None:
        """Log where the time of the iteration that has ended went, as far as this start has seen it."""
        if self._training is None:
            return
        (begun, saved), self._training = self._training, None
        saving = _seconds_of_saving(trainer) - saved
        seconds, (hidden, self._hidden) = self._watch.take(), (self._hidden, 0.0)
        waited = seconds.get("wait", 0.0)
        seconds |= {"train": time.perf_counter() - begun - saving - waited, "save": saving}
        if trainer.is_global_zero:
            beside = f"; sampled beside it {hidden:.1f} s" if hidden else ""
            rank_zero_info(f"iteration {iteration} took {describe(seconds)}{beside}")
            seconds |= {"hidden": hidden} if self.staleness else {}
            self._log(trainer, iteration, {f"time/{name}": value for name, value in seconds.items()})

    @contextlib.contextmanager
    def _running(self, trainer: Trainer, phase: str) -> Iterator[None]:
        """Count the time of a phase, which the Trainer's profiler sees too."""
        with self._watch.running(phase), trainer.profiler.profile(f"[RolloutCallback]{phase}"):  # type: ignore[attr-defined]
            yield

    def _collect(self, trainer: Trainer, dispatcher: Dispatcher, iteration: int) -> None:
        started, scored = time.perf_counter(), dispatcher.seconds["score"] + dispatcher.seconds["judge"]
        with self._running(trainer, "sample"), _Phases(trainer, iteration) as phases:
            manifest = self._plan.run(iteration, self.folder, dispatcher, phases.report, self._team)
            self._watch.add("score", dispatcher.seconds["score"] + dispatcher.seconds["judge"] - scored)
        self._tell_collected(trainer, manifest, time.perf_counter() - started)

    def _tell_collected(self, trainer: Trainer, manifest: dict[str, Any], seconds: float) -> None:
        iteration, chosen, monitors = manifest["iteration"], manifest["config"], manifest["monitors"]
        temperature = chosen.get("sampling", {}).get("temperature", 1.0)
        threshold = chosen.get("reward_threshold", 0.0)
        rank_zero_info(
            f"iteration {iteration}: temperature {temperature:g}, threshold {threshold:g}, "
            f"accuracy {monitors['accuracy']:.3f}, {monitors['num_rows']} rows, {seconds:.1f} s"
        )
        assert self._proof is not None
        # How far vLLM and the training model are apart: their kernels, number formats and, of experts, their routing.
        measured = {"rollout/sync_error": self._proof.max_error}
        metrics = _rollout_metrics(manifest, temperature, threshold, self._team.members)
        self._log(trainer, iteration, metrics | measured)

    def _evaluate(self, trainer: Trainer, dispatcher: Dispatcher, iteration: int) -> None:
        with self._running(trainer, "measure"):
            metrics = self._measure(dispatcher, iteration)
        self._tell_measured(trainer, iteration, metrics)

    def _measure(self, dispatcher: Dispatcher, iteration: int) -> dict[str, float]:
        assert self.evaluation is not None
        return self.evaluation.run(iteration, self.folder, dispatcher, self.grader, self._team)

    def _tell_measured(self, trainer: Trainer, iteration: int, metrics: dict[str, float]) -> None:
        rank_zero_info(
            f"after iteration {iteration}: "
            + ", ".join(f"{name} {value:.3f}" for name, value in metrics.items() if not name.endswith(("low", "high")))
        )
        self._log(trainer, iteration, {f"eval/{name}": value for name, value in metrics.items()})

    def _to_measure(self, iteration: int) -> bool:
        """Whether the policy after an iteration is measured, and was not yet."""
        due = self.evaluation is not None and iteration % self.evaluation.every == 0
        return due and not self._evaluation_file(iteration).exists()

    def _evaluation_file(self, iteration: int) -> Path:
        assert self.evaluation is not None
        return self.evaluation.result_file(self.folder, iteration)

    def _work(self, trainer: Trainer, work: Callable[[Dispatcher], None]) -> None:
        """Let the first rank do some work for which all, or it alone, sample by the policy's present weights.

        No collective operation of the trainer is open meanwhile, however long it takes: the others wait in the store of
        the ranks, or for the first of their group.
        """
        everyone = self._team is self._crew
        for optimizer in trainer.optimizers:
            optimizer.zero_grad(set_to_none=True)  # as the next step does: memory for the engine
        dispatcher = self._synced(trainer, everyone)
        with self._led() as takes_part:
            if self._ranks.first:
                assert dispatcher is not None
                work(dispatcher)
                self._crew.dismiss()
            elif takes_part:
                for block in self._crew.blocks():
                    assert dispatcher is not None
                    if block.kind == "measure":
                        assert self.evaluation is not None
                        self.evaluation.follow(block, self.folder, dispatcher, self.grader, self._team)
                    else:
                        self._plan.follow(block, self.folder, dispatcher, self._team)
        if not self._ahead.under_way:
            self._rest()
        self._meet("sampled")

    def _led(self) -> contextlib.AbstractContextManager[bool]:
        """Whether this rank decides what its engine samples, for the others of its group too."""
        return self._engine.led() if isinstance(self._engine, GroupEngine) else contextlib.nullcontext(True)

    def _synced(self, trainer: Trainer, everyone: bool) -> Dispatcher | None:
        """An engine that holds the policy's present weights, proven; where not everyone samples, None on other ranks.

        All ranks help to gather the weights, one tensor at a time, which each streams into its own engine.
        """
        module: Any = trainer.lightning_module
        with self._running(trainer, "sync"):
            gathered = None if everyone else gathered_weights(module.model, trainer.is_global_zero)
        if not (everyone or trainer.is_global_zero):
            return None
        opened = self._engine is None
        if self._engine is None:
            with self._running(trainer, "open"):
                self._engine = open_engine(module.checkpoint, self._config(trainer), group=self._group)
        with self._running(trainer, "sync"):
            model = module.model if gathered is None else whole_copy(module.model, gathered)
            version = model_version(model)
            self._engine.wake()
            if everyone:
                self._meet("awake")  # engines do not open at the same pace, and gathering has a time-out
            # Once at the start too, so that an engine that does not take the weights is known before training is.
            if opened or self._engine.version != version:
                self._engine.sync(named_weights(model), version)
        dispatcher = Dispatcher(self._engine, module.tokenizer, self._template, self.reward, grader=self.grader)
        with self._running(trainer, "prove"):
            self._prove(model, version, dispatcher)
        return dispatcher

    def _rest(self) -> None:
        """Have the engine, where this rank has one, and the reward give up memory that training needs."""
        if self._engine is not None:
            self._engine.sleep()
            put_to_sleep(self.reward)

    def _config(self, trainer: Trainer) -> EngineConfig:
        """The engine's configuration, on the device on which this rank trains, with what the trainer leaves of it."""
        device, config = trainer.strategy.root_device, self.engine_config
        if device.type == "cpu" or self._apart:
            return config
        if config.gpu_memory_utilization is None:
            total = torch.cuda.get_device_properties(device).total_memory
            share = share_beside(total, *held_beside(trainer.lightning_module, config, self.reward))
            rank_zero_info(f"the engine takes {share:.2f} of {total / 1e9:.0f} GB beside the trainer at its fullest")
            config = replace(config, gpu_memory_utilization=share)
        workers = config.tensor_parallel_size > 1 and self._group is None  # on all devices that are visible
        return config if workers else replace(config, device=device.index)

    @property
    def _apart(self) -> bool:
        """Whether samples are drawn on other devices than those of the training; the first rank then deals them out."""
        return self.engine_config.kind == "ray" or self.engine_config.is_url

    def _meet(self, place: str) -> None:
        self._num_met += 1
        self._ranks.meet(f"{place}/{self._num_met}")

    def _prove(self, model: torch.nn.Module, version: str, dispatcher: Dispatcher) -> None:
        """Raise if the engine does not compute what the training model computes."""
        prompts = [dispatcher.prompt_ids(problem) for problem in self._plan.problems[:NUM_SYNC_PROMPTS]]
        training = model.training
        model.eval()
        self._proof = verify_sync(dispatcher.engine, model, prompts, version, self.sync_tolerance, self._proof)
        model.train(training)

    def _log(self, trainer: Trainer, iteration: int, metrics: dict[str, float]) -> None:
        for logger in trainer.loggers:
            logger.log_metrics({"iteration": float(iteration), **metrics}, step=trainer.global_step)


class _Phases:
    """Shows the progress of one phase after the other."""

    def __init__(self, trainer: Trainer, iteration: int) -> None:
        self._trainer, self._iteration = trainer, iteration
        self._label, self._stack = "", contextlib.ExitStack()

    def __enter__(self) -> _Phases:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def report(self, phase: str, done: int, total: int) -> None:
        """Raises `SIGTERMException` between problems once the process was told to end."""
        if phase != self._label:
            self._stack.close()
            self._label = phase
            self._bar = self._stack.enter_context(track(total, f"iteration {self._iteration}: {phase}"))
        self._bar.advance(done - self._bar.done)
        if self._trainer.received_sigterm:
            raise SIGTERMException


def _seconds_of_saving(trainer: Trainer) -> float:
    return sum(getattr(callback, "seconds", 0.0) for callback in trainer.checkpoint_callbacks)


def _missing(trainer: Trainer, path: Path) -> bool:
    """Whether a file is not there, as the first rank sees it, so that all ranks do the same."""
    return trainer.strategy.broadcast(not path.exists())


def _epochs_trained(trainer: Trainer) -> int:
    progress: Any = trainer.fit_loop.epoch_progress.current
    return progress.processed


def _rollout_metrics(
    manifest: dict[str, Any], temperature: float, threshold: float, members: Sequence[int]
) -> dict[str, float]:
    metrics = {f"rollout/{name}": float(value) for name, value in manifest["monitors"].items()}
    metrics |= {"rollout/temperature": temperature, "rollout/threshold": threshold}
    if "staleness" in manifest["asked"]:
        metrics["rollout/staleness"] = float(manifest["staleness"])
    if "balance_score" in manifest["decision"]:
        metrics["rollout/balance_score"] = manifest["decision"]["balance_score"]
    for phase in manifest["seconds"]:
        metrics[f"rollout/seconds/{phase}"] = manifest["seconds"][phase]
        metrics[f"rollout/tokens/{phase}"] = manifest["tokens"][phase]
    if len(members) > 1:
        for rank, effort in zip(members, manifest["ranks"], strict=True):
            metrics |= {f"rollout/rank{rank}/{name}": float(value) for name, value in effort.items()}
    return metrics


def _check_objective(objective: Objective) -> None:
    """Look at an objective whose rows are drawn by the policy before the one that their training starts from.

    Raises:
        InputError: it needs the weights that drew the rows.
    """
    if objective.needs_old and objective.old_logps == "recomputed":
        raise InputError(
            "objective.old_logps is recomputed, by the weights that drew the rows, and with staleness 1 those are gone "
            "when the rows are trained on; set old_logps: engine and correction: none, or staleness: 0."
        )
    if objective.on_policy and not objective.needs_engine:
        rank_zero_warn(
            "staleness is 1 and the objective has no ratio to the policy that drew the rows: it takes samples of the "
            "policy an iteration before for samples of the present one; set ratio: token and old_logps: engine."
        )
