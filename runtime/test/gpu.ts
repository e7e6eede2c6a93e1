// Dawn under Node, on whatever Vulkan driver VK_ICD_FILENAMES names; SwiftShader's, which Chromium brings, needs no
// GPU.

import { existsSync } from "node:fs";

const SWIFTSHADER = ["/usr/lib/chromium/vk_swiftshader_icd.json", "/usr/lib/chromium-browser/vk_swiftshader_icd.json"];

/** Why there is no WebGPU here, or undefined if there is. */
export let noGPU: string | undefined;
export let gpu: GPU | undefined;

process.env.VK_ICD_FILENAMES ??= SWIFTSHADER.find((path) => existsSync(path));
try {
  const dawn = (await import("webgpu")) as { create(options: string[]): GPU };
  // SwiftShader compiles the zeros of workgroup memory one by one: seconds for each kernel that has a few KiB of it.
  const entry = dawn.create(["disable-dawn-features=use_vulkan_zero_initialize_workgroup_memory_extension"]);
  if (await entry.requestAdapter()) gpu = entry;
  else noGPU = "Dawn finds no adapter: set VK_ICD_FILENAMES to a Vulkan driver";
} catch (error) {
  noGPU = String(error);
}
if (noGPU) console.warn(`WebGPU tests are skipped: ${noGPU}`);
