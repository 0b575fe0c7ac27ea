"The CUDA backend: `Simulation(model; backend=:CUDA)`."
module AdjointGPUCUDAExt

using AdjointGPU, CUDA
using AdjointGPU: Kernels

AdjointGPU.zero_field(::Kernels{:CUDA,T}, shape) where {T} = CUDA.zeros(T, shape)
AdjointGPU.device(::Kernels{:CUDA}) = "cuda: $(CUDA.name(CUDA.device()))"

AdjointGPU.@generate_kernels CUDA

end
