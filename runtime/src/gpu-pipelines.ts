// kernels.wgsl to compute pipelines, all of them at once.

import { BackendError, reasonOf } from "./errors.ts";
import type { Kernel, Program } from "./manifest.ts";
import { walkSteps } from "./plan.ts";

/** GPUShaderStage.COMPUTE */
const COMPUTE = 4;

const MARK = "//# kernel ";

/** Sections of kernels.wgsl by kernel name. What precedes the first mark belongs to every section. */
export function splitShaders(text: string): Map<string, string> {
  const [prelude, ...sections] = `\n${text}`.split(`\n${MARK}`);
  return new Map(
    sections.map((section) => {
      const end = section.indexOf("\n");
      return [section.slice(0, end < 0 ? undefined : end).trim(), prelude + (end < 0 ? "" : section.slice(end))];
    }),
  );
}

/** Positions of the kernels that steps give parameters to. */
function withParameters(program: Program): Set<number> {
  const found = new Set<number>();
  walkSteps(program.steps, (step) => {
    if ("run" in step && step.on !== "js" && step.params?.length) found.add(step.run);
  });
  return found;
}

/** Pipelines by kernel; `report` is told how many are ready. Rejects with a BackendError that names the kernel, the line and the compiler's message. */
export async function compilePipelines(
  device: GPUDevice,
  program: Program,
  text: string,
  report: (compiled: number) => void,
): Promise<GPUComputePipeline[]> {
  const compiler = new Compiler(device);
  const shaders = splitShaders(text);
  const parameters = withParameters(program);
  let compiled = 0;
  report(0);
  return Promise.all(
    program.kernels.map(async (kernel, index) => {
      const code = shaders.get(kernel.name);
      if (code === undefined)
        throw new BackendError(`kernel ${kernel.name}: kernels.wgsl has no section of this name`, {
          kernel: kernel.name,
        });
      const pipeline = await compiler.compile(kernel, code, parameters.has(index));
      report(++compiled);
      return pipeline;
    }),
  );
}

class Compiler {
  private readonly layouts = new Map<string, GPUPipelineLayout>();

  constructor(private readonly device: GPUDevice) {}

  /** Explicit, because the automatic layout drops bindings that a shader does not use; equal ones are shared. */
  private layoutOf({ bindings = [] }: Kernel, uniform: boolean): GPUPipelineLayout {
    const types: GPUBufferBindingType[] = bindings.map((access) =>
      access === "read" ? "read-only-storage" : "storage",
    );
    if (uniform) types.push("uniform");
    const key = types.join();
    let layout = this.layouts.get(key);
    if (!layout) {
      const entries = types.map((type, binding) => ({ binding, visibility: COMPUTE, buffer: { type } }));
      layout = this.device.createPipelineLayout({ bindGroupLayouts: [this.device.createBindGroupLayout({ entries })] });
      this.layouts.set(key, layout);
    }
    return layout;
  }

  async compile(kernel: Kernel, code: string, uniform: boolean): Promise<GPUComputePipeline> {
    const { device } = this;
    device.pushErrorScope("validation");
    const module = device.createShaderModule({ label: kernel.name, code });
    const invalid = device.popErrorScope();
    try {
      const pipeline = device.createComputePipelineAsync({
        label: kernel.name,
        layout: this.layoutOf(kernel, uniform),
        compute: { module, entryPoint: kernel.entry ?? "main" },
      });
      const [compiled] = await Promise.all([pipeline, invalid]);
      return compiled;
    } catch (error) {
      const found = await module.getCompilationInfo().then(
        ({ messages }) => messages.find(({ type }) => type === "error"),
        () => undefined,
      );
      const reason = found ? `line ${found.lineNum}: ${found.message}` : reasonOf(error);
      throw new BackendError(`kernel ${kernel.name} (webgpu): ${reason}`, { kernel: kernel.name, cause: error });
    }
  }
}
