// Where every buffer of a program lies for one assignment of the symbols.

import type { Backend, Command, CommandShape, Storage } from "./backend.ts";
import { evaluate, isKnown, type Dim, type Symbols } from "./dims.ts";
import { Heap } from "./heap.ts";
import type { Buffer, Program, RunStep, Step } from "./manifest.ts";

/** First and last step at the top level that touches a buffer; everything inside a loop counts as the loop. */
export type Lifetime = { first: number; last: number };

/** Calls `visit` with every step, those inside of If and Loop included, after the step that holds them. */
export function walkSteps(
  steps: readonly Step[],
  visit: (step: Step, path: readonly number[]) => void,
  path: readonly number[] = [],
): void {
  steps.forEach((step, index) => {
    const here = [...path, index];
    visit(step, here);
    if ("if" in step) {
      walkSteps(step.then, visit, [...here, 0]);
      walkSteps(step.else, visit, [...here, 1]);
    } else if ("loop" in step) walkSteps(step.loop.body, visit, here);
  });
}

/** The buffers that a step itself names. */
export function buffersOf(step: Step): number[] {
  const present = (buffer: number | null | undefined): buffer is number => typeof buffer === "number";
  if ("run" in step) return [...step.args];
  if ("copy" in step) return [...step.copy];
  if ("bind" in step) return step.bind.map(([, buffer]) => buffer);
  if ("define" in step) return [];
  if ("host" in step) return [...step.args, ...step.outs].filter(present);
  if ("if" in step) return [step.if];
  if ("loop" in step) {
    const { trip, condition, iteration, next, carried = [], gather = [], scatter = [] } = step.loop;
    const pairs = [...gather, ...scatter].flatMap(([from, to]) => [from, to]);
    return [trip, condition, iteration, next, ...carried.flat(), ...pairs].filter(present);
  }
  return step satisfies never;
}

/** What can be said about a program before any input is seen. */
export class Outline {
  readonly lifetimes = new Map<number, Lifetime>();
  /** Symbols that get their value while the program runs: sizes that use them are not known beforehand. */
  readonly late = new Set<string>();
  readonly isStatic: boolean;
  private readonly definitions: (readonly [symbol: string, dim: Dim])[] = [];

  constructor(
    readonly program: Program,
    layout: Backend["layout"],
  ) {
    const touch = (buffer: number, step: number): void => {
      const life = this.lifetimes.get(buffer);
      if (life) life.last = Math.max(life.last, step);
      else this.lifetimes.set(buffer, { first: step, last: step });
    };
    for (const buffer of program.inputs) touch(buffer, 0);
    walkSteps(program.steps, (step, path) => {
      for (const buffer of buffersOf(step)) touch(buffer, path[0]);
      if ("bind" in step) for (const [symbol] of step.bind) this.late.add(symbol);
      if ("define" in step) for (const pair of step.define) this.define(pair, path.length > 1);
      if ("loop" in step) for (const symbol of [step.loop.symbol, step.loop.count]) if (symbol) this.late.add(symbol);
    });
    for (const buffer of program.outputs) touch(buffer, program.steps.length);
    this.isStatic = [...this.lifetimes.keys()].every((index) => {
      const buffer = program.buffers[index];
      return (
        buffer.role === "weight" ||
        buffer.role === "value" ||
        (typeof buffer.bytes === "number" && (layout === "arena" ? buffer.offset : buffer.slot) !== undefined)
      );
    });
  }

  private define([symbol, dim]: readonly [string, Dim], nested: boolean): void {
    if (nested || this.usesLate(dim)) this.late.add(symbol);
    else this.definitions.push([symbol, dim]);
  }

  /** The symbols that follow from those of the inputs, added to them. */
  complete(symbols: Symbols): Symbols {
    const complete: Symbols = new Map(symbols);
    for (const [symbol, dim] of this.definitions) complete.set(symbol, evaluate(dim, complete));
    return complete;
  }

  usesLate(dim: Dim): boolean {
    if (typeof dim === "number") return false;
    return typeof dim === "string" ? this.late.has(dim) : this.usesLate(dim[1]) || this.usesLate(dim[2]);
  }

  /** True if the numbers of a kernel call, and the sizes of its arguments, stay the same during a run. */
  isSteady(step: RunStep): boolean {
    const dims = [
      ...(step.params ?? []),
      ...(step.grid ?? []),
      step.extent ?? 0,
      ...step.args.map((arg) => this.program.buffers[arg].bytes),
    ];
    return !dims.some((dim) => this.usesLate(dim));
  }
}

function isPlanned(buffer: Buffer): boolean {
  return buffer.role !== "weight" && buffer.role !== "value";
}

type Placement = { readonly places: Map<number, number>; readonly sizes: readonly number[] };

/** The compiler's own places. */
function givenPlaces(outline: Outline, layout: Backend["layout"]): Placement {
  const places = new Map<number, number>();
  const sizes: number[] = [];
  for (const index of outline.lifetimes.keys()) {
    const buffer = outline.program.buffers[index];
    if (!isPlanned(buffer)) continue;
    const place = (layout === "arena" ? buffer.offset : buffer.slot) ?? 0;
    const bytes = evaluate(buffer.bytes, new Map());
    places.set(index, place);
    if (layout === "arena") sizes[0] = Math.max(sizes[0] ?? 0, place + bytes);
    else sizes[place] = Math.max(sizes[place] ?? 0, bytes);
  }
  return { places, sizes: Array.from(sizes, (size?: number) => size ?? 0) };
}

/** Places by lifetime, for sizes that follow from the inputs. `reuse: false` never gives the same memory twice. */
function plannedPlaces(outline: Outline, layout: Backend["layout"], symbols: Symbols, reuse: boolean): Placement {
  const places = new Map<number, number>();
  const { program, lifetimes } = outline;
  const heap = new Heap(0);
  const slots: { bytes: number; free: boolean }[] = [];
  const take = (bytes: number): number => {
    if (layout === "arena") return heap.take(bytes);
    const fitting = slots.filter((slot) => slot.free && slot.bytes >= bytes && slot.bytes <= 4 * bytes + 1024);
    const best = fitting.sort((left, right) => left.bytes - right.bytes).at(0);
    if (best) {
      best.free = false;
      return slots.indexOf(best);
    }
    return slots.push({ bytes, free: false }) - 1;
  };
  const order = [...lifetimes].filter(
    ([index]) => isPlanned(program.buffers[index]) && isKnown(program.buffers[index].bytes, symbols),
  );
  order.sort(([, left], [, right]) => left.first - right.first);
  const live: { index: number; last: number; bytes: number }[] = [];
  for (const [index, { first, last }] of order) {
    for (let slot = live.length - 1; reuse && slot >= 0; slot--) {
      const old = live[slot];
      if (old.last >= first) continue;
      const place = places.get(old.index) ?? 0;
      if (layout === "arena") heap.give(place, old.bytes);
      else slots[place].free = true;
      live.splice(slot, 1);
    }
    const bytes = evaluate(program.buffers[index].bytes, symbols);
    places.set(index, take(bytes));
    live.push({ index, last, bytes });
  }
  return { places, sizes: layout === "arena" ? [heap.end] : slots.map((slot) => slot.bytes) };
}

/**
 * The memory and the ready-made kernel calls of one assignment of the symbols. Void when the backend's epoch changes.
 */
export class Plan {
  readonly storages = new Map<number, Storage>();
  readonly epoch: number;
  private readonly commands = new Map<RunStep, Command>();

  constructor(
    private readonly outline: Outline,
    private readonly backend: Backend,
    weights: ReadonlyMap<number, Storage>,
    symbols: Symbols,
    overrides: ReadonlyMap<number, Storage>,
    reuse: boolean,
  ) {
    const placement =
      outline.isStatic && reuse
        ? givenPlaces(outline, backend.layout)
        : plannedPlaces(outline, backend.layout, symbols, reuse);
    backend.reserve(placement.sizes);
    this.epoch = backend.epoch;
    for (const [index, place] of placement.places) {
      this.storages.set(index, backend.place(place, evaluate(outline.program.buffers[index].bytes, symbols)));
    }
    for (const [index, storage] of [...weights, ...overrides]) this.storages.set(index, storage);
  }

  /** The kernel call of a step; made once if nothing in it changes during a run. `storageOf` finds late arguments. */
  command(step: RunStep, symbols: Symbols, storageOf: (buffer: number) => Storage): Command {
    const known = this.commands.get(step);
    if (known) return known;
    const { program } = this.outline;
    const shape: CommandShape = {
      params: (step.params ?? []).map((dim) => evaluate(dim, symbols)),
      grid: (step.grid ?? [1, 1, 1]).map((dim) => evaluate(dim, symbols)),
      extent: evaluate(step.extent ?? 1, symbols),
    };
    const buffers = step.args.map((arg) => program.buffers[arg]);
    const command = this.backend.command(step.run, step.args.map(storageOf), buffers, shape);
    if (this.outline.isSteady(step)) this.commands.set(step, command);
    return command;
  }
}
