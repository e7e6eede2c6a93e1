// model.json as types. docs/bundle-format.md defines it; this file is its exact counterpart.

import type { Dim } from "./dims.ts";
import { ModelError } from "./errors.ts";
import type { DType } from "./tensors.ts";

export const FORMAT = 1;

export type BackendName = "webgpu" | "wasm" | "js";

export type ValueType =
  | { readonly dtype: DType; readonly shape: readonly Dim[] }
  | { readonly sequence: ValueType }
  | { readonly optional: ValueType }
  | { readonly map: readonly [DType, ValueType] };

export type Port = ValueType & { readonly name: string };

/** Bytes of a shard. What does not fit in one shard comes in several pieces. */
export type Piece = { readonly shard: number; readonly offset: number; readonly bytes: number };

export type Weight =
  | { readonly encoding: "raw" | "f16"; readonly pieces: readonly Piece[] }
  | {
      readonly encoding: "int8";
      readonly pieces: readonly Piece[];
      readonly scales: readonly Piece[];
      readonly channel: number;
      readonly lanes?: number;
    }
  | { readonly encoding: "fill"; readonly value: number };

export type Buffer = {
  readonly role: "input" | "output" | "weight" | "temporary" | "value";
  readonly dtype: DType;
  readonly shape: readonly Dim[];
  readonly elements?: Dim;
  readonly bytes: Dim;
  readonly order?: readonly number[];
  readonly offset?: number;
  readonly slot?: number;
  readonly first?: number;
  readonly last?: number;
  readonly weight?: Weight;
};

export type Access = "read" | "read_write";

export type Kernel = {
  readonly name: string;
  readonly entry?: string;
  readonly export?: string;
  readonly bindings?: readonly Access[];
  readonly workgroup?: readonly [number, number, number];
  readonly parallel?: boolean;
};

export type RunStep = {
  readonly run: number;
  readonly args: readonly number[];
  readonly params?: readonly Dim[];
  readonly grid?: readonly [Dim, Dim, Dim];
  readonly extent?: Dim;
  readonly on?: "js";
};

export type HostStep = {
  readonly host: string;
  readonly args: readonly (number | null)[];
  readonly outs: readonly (number | null)[];
  readonly options?: Readonly<Record<string, unknown>>;
};

export type Loop = {
  readonly trip?: number | null;
  readonly condition?: number | null;
  readonly carried?: readonly (readonly [initial: number, state: number, next: number])[];
  readonly iteration?: number | null;
  readonly symbol?: string | null;
  readonly next?: number | null;
  readonly gather?: readonly (readonly [sequence: number, element: number, reverse?: boolean])[];
  readonly scatter?: readonly (readonly [element: number, sequence: number, reverse?: boolean])[];
  readonly count?: string | null;
  readonly body: readonly Step[];
};

export type Step =
  | RunStep
  | { readonly copy: readonly [source: number, target: number] }
  | { readonly bind: readonly (readonly [symbol: string, buffer: number, index: number])[] }
  | { readonly define: readonly (readonly [symbol: string, dim: Dim])[] }
  | HostStep
  | { readonly if: number; readonly then: readonly Step[]; readonly else: readonly Step[] }
  | { readonly loop: Loop };

export type Program = {
  readonly buffers: readonly Buffer[];
  readonly kernels: readonly Kernel[];
  readonly hostKernels?: readonly Kernel[];
  readonly steps: readonly Step[];
  readonly inputs: readonly number[];
  readonly outputs: readonly number[];
  readonly arenaBytes?: Dim | null;
  readonly scratchBytes?: number;
  readonly requires?: { readonly features?: readonly string[]; readonly limits?: Readonly<Record<string, number>> };
};

export type FileFacts = { readonly bytes: number; readonly sha256: string };

export type Manifest = {
  readonly format: number;
  readonly generator?: string;
  readonly name: string;
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  readonly symbols?: readonly string[];
  readonly weights?: { readonly shards: readonly (FileFacts & { readonly file: string })[] };
  readonly files?: Readonly<Record<string, FileFacts>>;
  readonly programs: Partial<Record<BackendName, Program>>;
};

/** Every piece of a weight, its values first. */
export function piecesOf(weight: Weight): readonly Piece[] {
  if (weight.encoding === "fill") return [];
  return weight.encoding === "int8" ? [...weight.pieces, ...weight.scales] : weight.pieces;
}

const STEP_KINDS = ["run", "copy", "bind", "define", "host", "if", "loop"] as const;
export type StepKind = (typeof STEP_KINDS)[number];

/** The key that says what a step does. */
export function stepKind(step: Step, where = "step"): StepKind {
  for (const kind of STEP_KINDS) if (kind in step) return kind;
  throw new ModelError(`model.json: ${where}: unknown step ${JSON.stringify(step)}`);
}

/** The typed array element behind a port, or null for sequences, optionals and maps. */
export function tensorType(type: ValueType): { readonly dtype: DType; readonly shape: readonly Dim[] } | null {
  return "dtype" in type ? type : null;
}
