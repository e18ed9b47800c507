"""Makes an epoch an iteration of self-improvement: it trains on the policy's own, freshly collected rollouts."""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from harness.callbacks.gather import gathered_weights, whole_copy
from harness.callbacks.heartbeat import ranks_of
from harness.callbacks.held_out import check_held_out
from harness.callbacks.held_out_accuracy import HeldOutAccuracy
from harness.callbacks.ledger import held_beside
from harness.callbacks.stopwatch import Stopwatch, describe
from harness.datamodules.solutions import check_solutions
from harness.engines import EngineConfig, SyncProof, open_engine, verify_sync
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
    the problems (`harness.rollouts.team`); the first decides and selects. What is written does not depend on the number
    of ranks, and a run may be resumed with another one.

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
        sampling_ranks: "all" ranks sample, each with an engine on its own device, or the "first" alone while the others
            wait, as an engine that takes several devices needs it (`engine.tensor_parallel_size`). Replicas on a Ray
            cluster (`engine.kind: ray`) get their requests from the first.
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
        self.manifest: dict[str, Any] = {}
        self._engine: Engine | None = None
        self._proof: SyncProof | None = None
        self._num_met = 0
        self._watch = Stopwatch()
        self._training: tuple[float, float] | None = None
        """When the present epoch began, and the seconds that saving had taken by then."""

    # What Lightning calls, in the order in which it does.

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
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
            for path in sorted([*self.folder.glob("iter_[0-9]*[0-9].json"), *self.folder.glob("eval_[0-9]*.json")]):
                read_manifest(path)
        self._check_evaluations()
        self._ranks = ranks_of(trainer)
        self._ranks.check_shared(self.folder)
        everyone = self.sampling_ranks == "all" and not self._apart
        if everyone and self._ranks.size > 1 and self.engine_config.tensor_parallel_size > 1:
            raise InputError(
                f"engine.tensor_parallel_size is {self.engine_config.tensor_parallel_size} while each of "
                f"{self._ranks.size} ranks has an engine on its own device; set it to 1, or sampling_ranks: first."
            )
        slots = self.engine_config.max_num_seqs or SLOTS
        self._crew = Team(self._ranks, slots)
        self._team = self._crew if everyone else Team(slots=slots)
        trainer.datamodule.refresh = lambda _: self.ensure(trainer)  # type: ignore[attr-defined]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._training = time.perf_counter(), _seconds_of_saving(trainer)

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

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = self._proof = None

    # What it does.

    def _load(self, module: Any) -> Iteration:
        """Read and check the files."""
        replay = replay_rows(self.replay_files, lambda problem: self._template.render(problem, module.tokenizer))
        self._objective: Objective | None = getattr(module, "objective", None)
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
        if not found:

            def measure_and_collect(dispatcher: Dispatcher) -> None:
                if self._is_measured(iteration - 1) and not self._evaluation_file(iteration - 1).exists():
                    self._evaluate(trainer, dispatcher, iteration - 1)
                self._collect(trainer, dispatcher, iteration)

            self._work(trainer, measure_and_collect)
        self.manifest = read_manifest(files.manifest)
        if found:
            remedy = "start in a new run directory, or remove that file to select from its rollouts again."
            check_asked(files.manifest, self.manifest.get("asked"), self._plan.asked(self._template), remedy)
        earlier = self._objective.replay_iterations if self._objective else 0
        first = max(1, iteration - earlier)
        return [str(IterationFiles(self.folder, number).train) for number in range(first, iteration + 1)]

    def _account(self, trainer: Trainer, iteration: int) -> None:
        """Log where the time of the iteration that has ended went, as far as this start has seen it."""
        if self._training is None:
            return
        (begun, saved), self._training = self._training, None
        saving = _seconds_of_saving(trainer) - saved
        seconds = {**self._watch.take(), "train": time.perf_counter() - begun - saving, "save": saving}
        if trainer.is_global_zero:
            rank_zero_info(f"iteration {iteration} took {describe(seconds)}")
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
        self._log(trainer, iteration, _rollout_metrics(manifest, temperature, threshold) | measured)

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

    def _is_measured(self, iteration: int) -> bool:
        return self.evaluation is not None and iteration % self.evaluation.every == 0

    def _evaluation_file(self, iteration: int) -> Path:
        assert self.evaluation is not None
        return self.evaluation.result_file(self.folder, iteration)

    def _work(self, trainer: Trainer, work: Callable[[Dispatcher], None]) -> None:
        """Let the first rank do some work for which all, or it alone, sample by the policy's present weights.

        No collective operation is open meanwhile, however long it takes: the others wait in the store of the ranks.
        """
        everyone = self._team is self._crew
        for optimizer in trainer.optimizers:
            optimizer.zero_grad(set_to_none=True)  # as the next step does: memory for the engine
        dispatcher = self._synced(trainer, everyone)
        if self._ranks.first:
            assert dispatcher is not None
            work(dispatcher)
            self._crew.dismiss()
        else:
            for block in self._crew.blocks():
                assert dispatcher is not None
                if block.kind == "measure":
                    assert self.evaluation is not None
                    self.evaluation.follow(block, self.folder, dispatcher, self.grader, self._team)
                else:
                    self._plan.follow(block, self.folder, dispatcher, self._team)
        self._rest()
        self._meet("sampled")

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
                self._engine = open_engine(module.checkpoint, self._config(trainer))
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
        return config if config.tensor_parallel_size > 1 else replace(config, device=device.index)

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


def _rollout_metrics(manifest: dict[str, Any], temperature: float, threshold: float) -> dict[str, float]:
    metrics = {f"rollout/{name}": float(value) for name, value in manifest["monitors"].items()}
    metrics |= {"rollout/temperature": temperature, "rollout/threshold": threshold}
    if "balance_score" in manifest["decision"]:
        metrics["rollout/balance_score"] = manifest["decision"]["balance_score"]
    for phase in manifest["seconds"]:
        metrics[f"rollout/seconds/{phase}"] = manifest["seconds"][phase]
        metrics[f"rollout/tokens/{phase}"] = manifest["tokens"][phase]
    for rank, effort in enumerate(manifest["ranks"] if len(manifest["ranks"]) > 1 else ()):
        metrics |= {f"rollout/rank{rank}/{name}": float(value) for name, value in effort.items()}
    return metrics
