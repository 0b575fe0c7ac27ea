# What the Julia engine is measured against: the STREAM triad, and the pseudo-transient scheme of
# the GPU workshop at JuliaCon 2023 (Raess, Utkin), written here from its equations:
#
#     q <- q - (q + K_f grad P) / (1 + 2 cfl n / re)        n cells along the flux's axis
#     P <- P - (div q - Q) cfl min(dx, dy) l_y / (re K_max)  K_max of a cell and its neighbours
#
# with cfl = 1/2.1 and re = 0.8 pi: the damping does not adapt.

module Workshop

using ParallelStencil
@init_parallel_stencil(Threads, Float64, 2)

@parallel_indices (ix, iy) function fluxes!(qx, qy, P, K, dx, dy, rx, ry)
    @inbounds begin
        if 1 < ix <= size(P, 1) && iy <= size(P, 2)
            Kx = (K[ix-1, iy] + K[ix, iy]) / 2
            qx[ix, iy] -= (qx[ix, iy] + Kx * (P[ix, iy] - P[ix-1, iy]) / dx) * rx
        end
        if ix <= size(P, 1) && 1 < iy <= size(P, 2)
            Ky = (K[ix, iy-1] + K[ix, iy]) / 2
            qy[ix, iy] -= (qy[ix, iy] + Ky * (P[ix, iy] - P[ix, iy-1]) / dy) * ry
        end
    end
    return
end

@parallel_indices (ix, iy) function pressure!(P, R, qx, qy, Q, K_max, dx, dy, step)
    @inbounds begin
        R[ix, iy] = (qx[ix+1, iy] - qx[ix, iy]) / dx + (qy[ix, iy+1] - qy[ix, iy]) / dy - Q[ix, iy]
        P[ix, iy] -= R[ix, iy] * step / K_max[ix, iy]
    end
    return
end

function solve(K, Q, lx, ly, tolerance, max_iterations)
    nx, ny = size(K)
    dx, dy = lx / nx, ly / ny
    cfl, re = 1 / 2.1, 0.8pi
    near(i, n) = max(1, i - 1):min(n, i + 1)
    K_max = [max(maximum(K[near(i, nx), j]), maximum(K[i, near(j, ny)])) for i in 1:nx, j in 1:ny]
    P, R = zeros(nx, ny), zeros(nx, ny)
    qx, qy = zeros(nx + 1, ny), zeros(nx, ny + 1)
    step = cfl * min(dx, dy) * ly / re
    rx, ry = 1 / (1 + 2cfl * nx / re), 1 / (1 + 2cfl * ny / re)
    scale, residual, iterations = maximum(abs, Q), 1.0, 0
    start = time()
    while tolerance < residual < 1e10 && iterations < max_iterations
        for _ in 1:max(16, nx ÷ 3)
            @parallel (1:nx+1, 1:ny+1) fluxes!(qx, qy, P, K, dx, dy, rx, ry)
            @parallel (1:nx, 1:ny) pressure!(P, R, qx, qy, Q, K_max, dx, dy, step)
            iterations += 1
        end
        residual = maximum(abs, R) / scale
    end
    return iterations, time() - start, residual
end

end

workshop(K, Q, lx, ly, tolerance, max_iterations) =
    Workshop.solve(Array{Float64}(K), Array{Float64}(Q), lx, ly, tolerance, max_iterations)

function triad(n, repeats)
    a, b, c = zeros(n), ones(n), ones(n)
    parts = Iterators.partition(1:n, cld(n, Threads.nthreads()))
    return map(1:repeats) do _
        start = time_ns()
        Threads.@threads :static for part in collect(parts)
            @inbounds @simd ivdep for i in part
                a[i] = b[i] + 3.0 * c[i]
            end
        end
        3 * 8 * n / ((time_ns() - start) / 1e9)
    end
end
