"The AMDGPU backend: `Simulation(model; backend=:AMDGPU)`."
module AdjointGPUAMDGPUExt

using AdjointGPU, AMDGPU
using AdjointGPU: Kernels

AdjointGPU.zero_field(::Kernels{:AMDGPU,T}, shape) where {T} = AMDGPU.zeros(T, shape)
AdjointGPU.device(::Kernels{:AMDGPU}) = "amdgpu: $(AMDGPU.HIP.name(AMDGPU.device()))"

AdjointGPU.@generate_kernels AMDGPU

end
