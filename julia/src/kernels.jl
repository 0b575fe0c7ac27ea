# The kernels, once a (backend, number type, dimensions): ParallelStencil is initialised once a
# module. They take the physics as functions of one cell, which a model gives:
#
#     assemble(c, m, I)     sets coefficients c in cell I from the parameters m
#     residual(u, c, I)     R in cell I

"Chooses the kernels of a backend, a number type and a number of dimensions."
struct Kernels{B,T,N} end

"`assemble(c, m, I)` for all I in the ranges."
function assemble! end

"The reverse of `assemble!` by Enzyme: adds (dc/dm)' cbar to mbar."
function vjp_assemble! end

"R = residual(u, c)."
function residual! end

"The tangent of `residual!` by Enzyme: Rdot = (dR/du) udot."
function jvp_residual! end

"The reverse of `residual!` by Enzyme: adds (dR/du)' Rbar to ubar, (dR/dc)' Rbar to cbar."
function vjp_residual! end

"`next = u + beta (u - next) + alpha R / PC`, and the exchange of its outer layers."
function step! end

"A field of zeros on a backend."
zero_field(::Kernels{:Threads,T}, shape) where {T} = zeros(T, shape)

"Name of the device that a backend runs on."
device(::Kernels{:Threads}) = "cpu: $(Threads.nthreads()) threads"

# Some arrays of a kernel are constant, others are not: Enzyme must tell them apart as it runs.
const FORWARD = set_runtime_activity(Forward)
const REVERSE = set_runtime_activity(Reverse)

function kernel_module(backend::Symbol, T::Type, N::Int)
    name = Symbol(backend, T, N, :D)
    return quote
        module $name
            const AdjointGPU = $AdjointGPU
            using .AdjointGPU: Enzyme, Kernels, FORWARD, ParallelStencil, REVERSE, exchange!
            using .ParallelStencil
            $(backend === :Threads ? nothing : :(using $backend))
            @init_parallel_stencil(package=$backend, numbertype=$T, ndims=$N)
            const ThisKernels = Kernels{$(QuoteNode(backend)),$T,$N}

            # @inbounds stands inside: ParallelStencil's own does not reach into a threaded loop.

            @parallel_indices (I...) function assemble_kernel!(c, m, assemble)
                assemble(c, m, I)
                return
            end

            @parallel_indices (I...) function residual_kernel!(R, u, c, residual)
                @inbounds R[I...] = residual(u, c, I)
                return
            end

            # Ranges begin at 1, as @hide_communication needs them; the cells begin at 2.
            @parallel_indices (I...) function step_kernel!(next, u, c, inverse, residual, alpha, beta)
                J = I .+ 1
                @inbounds next[J...] = u[J...] + beta * (u[J...] - next[J...]) +
                                       alpha * inverse[J...] * residual(u, c, J)
                return
            end

            function AdjointGPU.assemble!(::ThisKernels, ranges, c, m, assemble)
                any(isempty, ranges) || @parallel ranges assemble_kernel!(c, m, assemble)
                return
            end

            function AdjointGPU.vjp_assemble!(::ThisKernels, ranges, c, cbar, m, mbar, assemble)
                any(isempty, ranges) && return
                @parallel ranges ∇=(c->cbar, m->mbar) ad_mode=REVERSE assemble_kernel!(c, m, assemble)
                return
            end

            function AdjointGPU.residual!(::ThisKernels, ranges, R, u, c, residual)
                @parallel ranges residual_kernel!(R, u, c, residual)
                return
            end

            function AdjointGPU.jvp_residual!(::ThisKernels, ranges, R, Rdot, u, udot, c, residual)
                @parallel ranges ∇=(R->Rdot, u->udot) ad_mode=FORWARD residual_kernel!(R, u, c, residual)
                return
            end

            function AdjointGPU.vjp_residual!(::ThisKernels, ranges, R, Rbar, u, ubar, c, cbar, residual)
                @parallel ranges ∇=(R->Rbar, u->ubar, c->cbar) ad_mode=REVERSE residual_kernel!(R, u, c, residual)
                return
            end

            function AdjointGPU.step!(::ThisKernels, topology, ranges, edge, next, u, c, inverse, residual, alpha, beta)
                if edge === nothing
                    @parallel ranges step_kernel!(next, u, c, inverse, residual, alpha, beta)
                    exchange!(topology, next)
                else
                    @hide_communication edge begin
                        @parallel ranges step_kernel!(next, u, c, inverse, residual, alpha, beta)
                        exchange!(topology, next)
                    end
                end
                return
            end
        end
    end
end

"""
    @generate_kernels Threads|CUDA|AMDGPU

Make the kernel modules of a backend, for both precisions and 1 to 3 dimensions.
"""
macro generate_kernels(backend::Symbol)
    modules = [kernel_module(backend, T, N).args[2] for T in (Float64, Float32) for N in 1:3]
    return esc(Expr(:toplevel, modules...))
end
